// Checks a page by what can be measured: names, landmarks, headings, contrast, target sizes, overflow (WCAG 2.2 AA, and
// 44 px of its AAA 2.5.5). Returns the faults as texts.
const faults = [];
const say = (what, element) => faults.push(`${what}: ${element ? element.outerHTML.slice(0, 120) : ""}`);
const shown = (element) => element.checkVisibility({ visibilityProperty: true, opacityProperty: true });
const unseen = (element) => element.closest(".unseen, .skip") !== null;
const every = (selector) => [...document.querySelectorAll(selector)].filter(shown);

// 3.1.1, 2.4.2, 1.3.1: language, title, landmarks.
if (!document.documentElement.lang) say("no language");
if (!document.title.includes(" – ")) say("no title");
for (const landmark of ["header", "main", "footer"])
  if (document.querySelectorAll(landmark).length !== 1) say(`not one ${landmark}`);
for (const element of every("body *"))
  if (element.childElementCount === 0 && element.textContent.trim() && !element.closest("header, nav, main, footer, .skip"))
    say("outside of all landmarks", element);

// 1.3.1: one first heading, no level left out.
const levels = every("h1, h2, h3, h4").map((heading) => Number(heading.tagName[1]));
if (levels[0] !== 1 || levels.filter((level) => level === 1).length !== 1) say(`headings ${levels}`);
levels.reduce((before, level) => (level > before + 1 && say(`headings ${levels}`), level), 0);

// 4.1.1, 4.1.2: ids and what refers to them.
const ids = [...document.querySelectorAll("[id]")].map((element) => element.id);
if (new Set(ids).size !== ids.length) say(`ids repeated ${ids}`);
for (const name of ["for", "aria-describedby", "aria-labelledby"])
  for (const element of document.querySelectorAll(`[${name}]`))
    for (const id of element.getAttribute(name).split(" "))
      if (!document.getElementById(id)) say(`${name} leads nowhere`, element);
for (const link of every('a[href^="#"]'))
  if (!document.getElementById(link.getAttribute("href").slice(1))) say("link leads nowhere", link);

// 3.3.2, 1.3.5, 4.1.2: what is typed into has a label and says what it is; what is pressed has a name.
for (const input of every("input:not([type=hidden])")) {
  if (input.getAttribute("aria-hidden") === "true") continue;
  if (!input.labels || input.labels.length !== 1 || !input.labels[0].textContent.trim()) say("no label", input);
  if (!input.hasAttribute("autocomplete")) say("no autocomplete", input);
  if (input.getAttribute("aria-invalid") === "true" && !input.getAttribute("aria-describedby")?.includes("error"))
    say("fault not described", input);
}
const names = new Map();
for (const element of every("button, a")) {
  const name = element.textContent.replace(/\s+/g, " ").trim();
  if (!name) say("no name", element);
  const goal = element.tagName === "A" ? element.href : element.form.outerHTML;
  if (names.has(name) && names.get(name) !== goal) say(`two things are called ${name}`, element);
  names.set(name, goal);
}
for (const image of every("img, [role=img]"))
  if (!image.getAttribute("alt") && !image.getAttribute("aria-label")) say("no text for an image", image);

// 1.4.3, 1.4.11: contrast, computed.
const colour = (text) => {
  const parts = text.match(/[\d.]+/g).map(Number);
  return { rgb: parts.slice(0, 3), alpha: parts.length > 3 ? parts[3] : 1 };
};
const light = (rgb) => {
  const [r, g, b] = rgb.map((part) => {
    const value = part / 255;
    return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const behind = (element) => {
  for (let at = element; at; at = at.parentElement) {
    const { rgb, alpha } = colour(getComputedStyle(at).backgroundColor);
    if (alpha === 1) return rgb;
    if (alpha > 0) say("half transparent", at);
  }
  return [255, 255, 255];
};
const contrast = (one, other) => {
  const [high, low] = [light(one), light(other)].sort((a, b) => b - a);
  return (high + 0.05) / (low + 0.05);
};
for (const element of every("body *")) {
  const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
  if (!own || unseen(element)) continue;
  const ratio = contrast(colour(getComputedStyle(element).color).rgb, behind(element));
  if (ratio < 4.5) say(`contrast ${ratio.toFixed(2)}`, element);
}
for (const input of every("input:not([type=hidden])")) {
  if (unseen(input)) continue;
  const ratio = contrast(colour(getComputedStyle(input).borderTopColor).rgb, behind(input.parentElement));
  if (ratio < 3) say(`border contrast ${ratio.toFixed(2)}`, input);
}

// 2.5.5: 44 px, but for links within a sentence (2.5.8).
for (const element of every("button, a, input:not([type=hidden]), summary")) {
  if (unseen(element)) continue;
  const sentence = element.parentElement.matches("p:not(.links), dd, li") && element.parentElement.childNodes.length > 1;
  const alone = element.parentElement.matches("dd");
  const box = element.getBoundingClientRect();
  if (!sentence && !alone && box.height < 43.5) say(`${box.height} px high`, element);
}

// 1.4.10: nothing to scroll sideways.
if (document.documentElement.scrollWidth > window.innerWidth) say(`wider than ${window.innerWidth} px`);
return faults;
