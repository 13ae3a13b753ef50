//! Lets in who has a session: asks the service that keeps them, and remembers for a minute what it said.

const std = @import("std");
const tidegate = @import("tidegate");

const Session = struct {
    service: []const u8,

    pub fn configure(configuration: tidegate.Configuration) !Session {
        return configuration.parse(Session);
    }

    pub fn reads(_: *const Session) []const tidegate.Reading {
        return &.{ .{ .header = "x-session" }, .method };
    }

    pub fn authorize(self: *const Session) !tidegate.Verdict {
        const token = tidegate.given(0) orelse return .{ .unauthorized = "Session" };
        const ends = std.mem.eql(u8, tidegate.given(1) orelse "", "DELETE");
        if (ends) tidegate.shared_cache.delete(token); // after this request there is no such session
        if (tidegate.shared_cache.get(token)) |id| {
            tidegate.metrics.count("remembered", 1);
            return .{ .allow = .{ .id = id } };
        }
        tidegate.metrics.count("asked", 1);
        const id = try self.ask(token) orelse return .{ .forbidden = "no such session" };
        tidegate.shared_cache.set(token, id, remembered_ms);
        return .{ .allow = .{ .id = id } };
    }

    /// Whose session it is.
    fn ask(self: *const Session, token: []const u8) !?[]const u8 {
        const secret = tidegate.secrets.get("sessions") orelse return tidegate.fail("the node has no secret `sessions`");
        const authorization = try std.fmt.allocPrint(tidegate.allocator, "Bearer {s}", .{secret});
        const answer = try tidegate.http_client.send(.{
            .method = "POST",
            .uri = self.service,
            .headers = &.{.{ .name = "authorization", .value = authorization }},
            .body = token,
            .timeout_ms = 2000,
        });
        const Known = struct { id: []const u8 };
        return switch (answer.status) {
            200 => (try (tidegate.Configuration{ .json = answer.body }).parse(Known)).id,
            404 => null,
            else => tidegate.fail(try std.fmt.allocPrint(tidegate.allocator, "the service answered {d}", .{answer.status})),
        };
    }
};

const remembered_ms = 60_000;

comptime {
    tidegate.exportPlugin(Session);
}
