//! Counts five headers: the authorizer of the benchmark's case `guest-zig`.

const tidegate = @import("tidegate");

const FiveHeaders = struct {
    pub fn configure(_: tidegate.Configuration) !FiveHeaders {
        return .{};
    }

    pub fn authorize(_: *const FiveHeaders) !tidegate.Verdict {
        for ([_][]const u8{ "x-one", "x-two", "x-three", "x-four", "x-five" }) |name| {
            if (tidegate.request.header(name) == null) return .{ .forbidden = "fewer" };
        }
        return .{ .allow = .{ .id = "five" } };
    }
};

comptime {
    tidegate.exportPlugin(FiveHeaders);
}
