//! Admits so many requests of each caller: some a second and, where configured, some a day.

const std = @import("std");
const tidegate = @import("tidegate");

const Clients = struct {
    header: []const u8 = "x-client",
    anonymous: bool = false,
    rate: f64,
    burst: u32,
    limit: ?u32 = null,

    pub fn configure(configuration: tidegate.Configuration) !Clients {
        return configuration.parse(Clients);
    }

    pub fn admit(self: *const Clients) !tidegate.Admission {
        const name = tidegate.request.header(self.header) orelse
            if (self.anonymous) "" else return .{ .reject = 1000 }; // a name is missing, not time
        const key = try std.mem.concat(tidegate.allocator, u8, &.{ "client ", name });
        if (tidegate.rate_limit.takeToken(key, self.rate, self.burst)) |retry_ms| return .{ .reject = retry_ms };
        const limit = self.limit orelse return .admit;
        return switch (try tidegate.quota.take(key, 1, .{ .limit = limit, .period = .day })) {
            .admitted => .admit,
            .exceeded => |standing| .{ .exceeded = standing.renews_in_ms },
        };
    }
};

comptime {
    tidegate.exportPlugin(Clients);
}
