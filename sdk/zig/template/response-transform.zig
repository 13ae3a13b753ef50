//! Says how long a response may be kept, and not what made it.

const std = @import("std");
const tidegate = @import("tidegate");

const Lifetime = struct {
    @"max-age": u32 = 60,

    pub fn configure(configuration: tidegate.Configuration) !Lifetime {
        return configuration.parse(Lifetime);
    }

    pub fn transformResponse(self: *const Lifetime) ![]const tidegate.Edit {
        const value = if (tidegate.response.status() < 400)
            try std.fmt.allocPrint(tidegate.allocator, "max-age={d}", .{self.@"max-age"})
        else
            "no-store";
        return tidegate.allocator.dupe(tidegate.Edit, &.{
            .{ .set_header = .{ .name = "cache-control", .value = value } },
            .{ .remove_header = "server" },
        });
    }
};

comptime {
    tidegate.exportPlugin(Lifetime);
}
