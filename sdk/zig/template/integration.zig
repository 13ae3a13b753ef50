//! Sends requests to one of two upstreams, or answers all of them while both are closed.

const std = @import("std");
const tidegate = @import("tidegate");

const Switch = struct {
    upstream: []const u8,
    preview: ?[]const u8 = null,
    @"timeout-ms": ?u32 = null,
    closed: ?[]const u8 = null,

    pub fn configure(configuration: tidegate.Configuration) !Switch {
        return configuration.parse(Switch);
    }

    pub fn integrate(self: *const Switch) !tidegate.Plan {
        if (self.closed) |closed| return .{ .respond = .{
            .status = 503,
            .headers = &.{.{ .name = "content-type", .value = "text/plain" }},
            .body = closed,
        } };
        const preview = if (tidegate.request.header("x-preview") == null) null else self.preview;
        const query = tidegate.request.queryString();
        return .{ .forward = .{
            .uri = try std.mem.concat(tidegate.allocator, u8, &.{
                "http://",
                preview orelse self.upstream,
                tidegate.request.path(),
                if (query == null) "" else "?",
                query orelse "",
            }),
            .edits = if (preview == null) &.{} else &.{.{ .remove_header = "x-preview" }},
            .timeout_ms = self.@"timeout-ms",
        } };
    }
};

comptime {
    tidegate.exportPlugin(Switch);
}
