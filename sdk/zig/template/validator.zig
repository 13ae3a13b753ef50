//! Demands a header, and a body of one media type that is not too long.

const std = @import("std");
const tidegate = @import("tidegate");

const Submission = struct {
    header: []const u8 = "idempotency-key",
    @"media-type": []const u8 = "application/json",
    @"body-bytes-max": u32 = 1024,

    pub fn configure(configuration: tidegate.Configuration) !Submission {
        return configuration.parse(Submission);
    }

    pub fn validate(self: *const Submission) !tidegate.Validity {
        if (tidegate.request.header(self.header) == null) {
            const message = try std.fmt.allocPrint(tidegate.allocator, "the header {s} is missing", .{self.header});
            return .{ .invalid_parameters = message };
        }
        const content_type = tidegate.request.header("content-type") orelse "";
        var parts = std.mem.splitScalar(u8, content_type, ';');
        const media_type = std.mem.trim(u8, parts.first(), " \t");
        if (!std.ascii.eqlIgnoreCase(media_type, self.@"media-type")) return .unsupported_media_type;
        if (tidegate.request.body().len > self.@"body-bytes-max") {
            const message = try std.fmt.allocPrint(tidegate.allocator, "the body is over {d} bytes", .{self.@"body-bytes-max"});
            return .{ .invalid_body = message };
        }
        return .valid;
    }
};

comptime {
    tidegate.exportPlugin(Submission);
}
