-- Token requests for wrk. BENCH_AUTHORIZATION is the header, BENCH_BODY the form; with BENCH_REFRESH (a file of refresh
-- tokens, one a line) each request spends a token, and the one that comes back is spent later.
-- wrk runs one of these per thread: one thread, so that the tokens have one owner.
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/x-www-form-urlencoded"
wrk.headers["Authorization"] = os.getenv("BENCH_AUTHORIZATION")
wrk.body = os.getenv("BENCH_BODY")
local file = os.getenv("BENCH_REFRESH")
local tokens, first, last = {}, 1, 0

if file then
  for line in io.lines(file) do
    last = last + 1
    tokens[last] = line
  end

  function request()
    local token = tokens[first]
    if token == nil then error("no refresh token left") end
    tokens[first], first = nil, first + 1
    return wrk.format(nil, nil, nil, "grant_type=refresh_token&refresh_token=" .. token)
  end

  function response(status, headers, body)
    local token = string.match(body, '"refresh_token":%s*"([^"]+)"')
    if status == 200 and token then
      last = last + 1
      tokens[last] = token
    end
  end
end

dofile(debug.getinfo(1, "S").source:match("^@(.*/)") .. "result.lua")
