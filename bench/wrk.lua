-- For wrk: requests the paths in a file, one per line, a random one each time, and prints the results as a line of
-- JSON. The request for a single path is created once, as wrk does without a script.

local seed = 0

function setup(thread)
  seed = seed + 1
  thread:set("seed", seed)
end

function init(args)
  local requests = {}
  for path in io.lines(args[1]) do
    requests[#requests + 1] = wrk.format(nil, path)
  end
  if #requests == 1 then return end
  math.randomseed(seed)
  request = function() return requests[math.random(#requests)] end
end

function done(summary, latency)
  local errors = summary.errors
  local seconds = summary.duration / 1e6
  local text = '{"requestsPerSecond":%.1f,"latencyMs":{"p50":%.3f,"p90":%.3f,"p99":%.3f,"max":%.3f},' ..
    '"requests":%d,"bytes":%.0f,' ..
    '"errors":{"connect":%d,"read":%d,"write":%d,"status":%d,"timeout":%d}}'
  print(text:format(
    summary.requests / seconds,
    latency:percentile(50) / 1e3, latency:percentile(90) / 1e3, latency:percentile(99) / 1e3, latency.max / 1e3,
    summary.requests, summary.bytes,
    errors.connect, errors.read, errors.write, errors.status, errors.timeout))
end
