# ruby-redis, set up with Sentinels, of which the proxy is one: silent on success, a message and exit code 1 otherwise. Arguments: HOST PORT.

require "redis"

SENTINELS = [{ host: ARGV[0], port: ARGV[1].to_i }].freeze

def expect(actual, wanted, what)
  abort "ruby-redis: #{what}: got #{actual.inspect}, expected #{wanted.inspect}" unless actual == wanted
end

def connect(role)
  Redis.new(url: "redis://mymaster", sentinels: SENTINELS, role: role, reconnect_attempts: 1)
end

primary = connect(:master)
expect(primary.set("rb:sentinel", "v"), "OK", "SET")
expect(primary.get("rb:sentinel"), "v", "GET")
keys = Array.new(50) { |i| "rb:s#{i}" }
expect(primary.mapped_mset(keys.to_h { |key| [key, key] }), "OK", "MSET over all slots")
connect(:master).call("CLIENT", "KILL", "ID", primary.call("CLIENT", "ID"))
expect(primary.mget(keys), keys, "MGET after the connection was lost")
# It asks for a replica, of which there is none, and says so.
begin
  connect(:slave).ping
  abort "ruby-redis: a replica was found"
rescue Redis::CannotConnectError => error
  expect(error.message, "No sentinels available.", "the error without replicas")
end
