-- GETs with DPoP proofs for wrk: BENCH_PROOFS is a file of proofs, one a line, each sent once; BENCH_TOKEN is bound to
-- their key. One thread, so that no proof is sent twice.
local proofs, sent = {}, 0
for line in io.lines(os.getenv("BENCH_PROOFS")) do proofs[#proofs + 1] = line end
local headers = { ["Authorization"] = "DPoP " .. os.getenv("BENCH_TOKEN") }

function request()
  sent = sent + 1
  if sent > #proofs then error("no proof left") end
  headers["DPoP"] = proofs[sent]
  return wrk.format("GET", nil, headers)
end

dofile(debug.getinfo(1, "S").source:match("^@(.*/)") .. "result.lua")
