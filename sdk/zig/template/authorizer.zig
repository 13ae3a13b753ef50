//! Lets in who sends a token whose digest is the configuration's.

const std = @import("std");
const tidegate = @import("tidegate");

const Token = struct {
    header: []const u8 = "x-token",
    digest: []const u8,

    pub fn configure(configuration: tidegate.Configuration) !Token {
        return configuration.parse(Token);
    }

    pub fn authorize(self: *const Token) !tidegate.Verdict {
        const token = tidegate.request.header(self.header) orelse return .{ .unauthorized = "Token" };
        const digest = tidegate.crypto.digest(.sha256, token);
        const digits = try std.fmt.allocPrint(tidegate.allocator, "{x}", .{digest});
        if (!tidegate.crypto.equal(digits, self.digest)) return .{ .forbidden = "another token" };
        return .{ .allow = .{ .id = "friend" } };
    }
};

comptime {
    tidegate.exportPlugin(Token);
}
