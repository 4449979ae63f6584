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

function done(summary, latency, requests)
  local errors = summary.errors
  print(string.format(
    'RESULT {"requests": %d, "seconds": %.6f, "refused": %d, "broken": %d, "p50_us": %.1f, "p99_us": %.1f}',
    summary.requests, summary.duration / 1e6, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50), latency:percentile(99)))
end
