-- wrk: send one request over and over, as it stands in the file that is given; at the end, print a line of JSON.
local question

function init(arguments)
    local file = assert(io.open(arguments[1], "rb"))
    question = file:read("*a")
    file:close()
end

function request()
    return question
end

function done(summary, latency, requests)
    local errors = summary.errors
    io.write(string.format(
        '\n{"requests": %d, "seconds": %f, "p50_s": %f, "p99_s": %f, "refused": %d, "broken": %d}\n',
        summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e6, latency:percentile(99) / 1e6,
        errors.status, errors.connect + errors.read + errors.write + errors.timeout
    ))
end
