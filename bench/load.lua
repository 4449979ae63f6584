-- The requests of the benchmark for wrk. BENCH_METHOD, BENCH_BODY and BENCH_TOKEN come from the environment.
wrk.method = os.getenv("BENCH_METHOD") or "GET"
if wrk.method == "POST" then
  wrk.body = os.getenv("BENCH_BODY")
  wrk.headers["Content-Type"] = "application/json"
end
if os.getenv("BENCH_TOKEN") then
  wrk.headers["Authorization"] = "Bearer " .. os.getenv("BENCH_TOKEN")
end

dofile(debug.getinfo(1, "S").source:match("^@(.*/)") .. "result.lua")
