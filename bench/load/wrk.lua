-- Script for wrk: sends the bytes of one file repeatedly, and prints one line of JSON at the end.
local request_bytes

function init(arguments)
    local file = assert(io.open(arguments[1], "rb"))
    request_bytes = file:read("*a")
    file:close()
end

function request()
    return request_bytes
end

function done(summary, latency, requests)
    local errors = summary.errors
    io.write(string.format(
        '\n{"requests": %d, "seconds": %f, "p50_s": %f, "p99_s": %f, "error_statuses": %d, "failures": %d}\n',
        summary.requests, summary.duration / 1e6,
        latency:percentile(50) / 1e6, latency:percentile(99) / 1e6,
        errors.status, errors.connect + errors.read + errors.write + errors.timeout
    ))
end
