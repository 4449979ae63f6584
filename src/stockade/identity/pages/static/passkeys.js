"use strict";
// Shows the passkey forms where the browser can do passkeys, and fills them in. Everything else works without.
(() => {
  const able = Boolean(window.PublicKeyCredential && navigator.credentials && window.isSecureContext);
  const forms = [...document.querySelectorAll("form[data-passkey]")];
  if (!able) return;
  for (const form of forms) {
    form.hidden = false;
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      ask(form);
    });
  }
  for (const element of document.querySelectorAll("[data-needs-passkey]")) element.hidden = false;
  for (const element of document.querySelectorAll("[data-without-passkey]")) element.hidden = true;

  // One question at a time: the autofill offer waits in the background until the button is pressed.
  let waiting = null;
  const offering = forms.find((form) => "conditional" in form.dataset);
  if (offering) offer(offering);

  async function offer(form) {
    const can = PublicKeyCredential.isConditionalMediationAvailable;
    if (!can || !(await can.call(PublicKeyCredential))) return;
    try {
      await answer(form, { mediation: "conditional" });
    } catch {
      // Nobody asked for it, so nobody is told.
    }
  }

  async function ask(form) {
    const button = form.querySelector("button");
    const status = form.querySelector(".status");
    button.disabled = true;
    status.textContent = "";
    try {
      await answer(form, {});
    } catch (error) {
      button.disabled = false;
      const told = { NotAllowedError: "cancelled", InvalidStateError: "twice" }[error.name] || "failed";
      status.textContent = form.dataset[told];
    }
  }

  async function answer(form, how) {
    if (waiting) waiting.abort();
    waiting = new AbortController();
    const { publicKey } = await options(form);
    const request = { ...how, signal: waiting.signal, publicKey: decoded(publicKey) };
    const credential =
      form.dataset.passkey === "create"
        ? await navigator.credentials.create(request)
        : await navigator.credentials.get(request);
    form.elements.credential.value = JSON.stringify(encoded(credential));
    form.submit();
  }

  async function options(form) {
    const body = new URLSearchParams();
    for (const name of ["csrf", "i", "to"]) if (form.elements[name]) body.set(name, form.elements[name].value);
    const response = await fetch(form.dataset.options, { method: "POST", body, credentials: "same-origin" });
    if (response.redirected) {
      // Sign in again first; the page leads back here.
      window.location.assign(response.url);
      return new Promise(() => {});
    }
    if (!response.ok) throw new Error("no options");
    return response.json();
  }

  // The JSON forms of WebAuthn Level 3 §5.1; written out, since not every browser has the functions for it.
  function decoded(options) {
    const copy = { ...options, challenge: bytes(options.challenge) };
    if (options.user) copy.user = { ...options.user, id: bytes(options.user.id) };
    for (const name of ["allowCredentials", "excludeCredentials"])
      if (options[name]) copy[name] = options[name].map((one) => ({ ...one, id: bytes(one.id) }));
    return copy;
  }

  function encoded(credential) {
    const given = credential.response;
    const response = { clientDataJSON: text(given.clientDataJSON) };
    for (const name of ["attestationObject", "authenticatorData", "signature", "userHandle"])
      if (given[name]) response[name] = text(given[name]);
    if (given.getTransports) response.transports = given.getTransports();
    return {
      id: credential.id,
      rawId: text(credential.rawId),
      type: credential.type,
      authenticatorAttachment: credential.authenticatorAttachment,
      clientExtensionResults: credential.getClientExtensionResults(),
      response,
    };
  }

  function bytes(base64url) {
    const binary = atob(base64url.replace(/-/g, "+").replace(/_/g, "/"));
    return Uint8Array.from(binary, (char) => char.charCodeAt(0));
  }

  function text(buffer) {
    const binary = String.fromCharCode(...new Uint8Array(buffer));
    return btoa(binary).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
  }
})();
