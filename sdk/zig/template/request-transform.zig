//! Gives the body in capital letters, after a prefix.

const std = @import("std");
const tidegate = @import("tidegate");

const Capitals = struct {
    prefix: []const u8 = "> ",

    pub fn configure(configuration: tidegate.Configuration) !Capitals {
        return configuration.parse(Capitals);
    }

    pub fn transformRequest(self: *const Capitals) !tidegate.Outcome {
        const body = tidegate.request.body();
        if (body.len == 0) return .{ .edits = &.{} };
        const capitals = try std.ascii.allocUpperString(tidegate.allocator, body);
        const changed = try std.mem.concat(tidegate.allocator, u8, &.{ self.prefix, capitals });
        const edits = try tidegate.allocator.dupe(tidegate.Edit, &.{
            .{ .set_body = changed },
            .{ .set_header = .{ .name = "x-changed", .value = "yes" } },
        });
        return .{ .edits = edits };
    }
};

comptime {
    tidegate.exportPlugin(Capitals);
}
