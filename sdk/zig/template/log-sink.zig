//! Writes down the requests that failed.

const std = @import("std");
const tidegate = @import("tidegate");

const Failures = struct {
    least: u16 = 400,

    pub fn configure(configuration: tidegate.Configuration) !Failures {
        return configuration.parse(Failures);
    }

    pub fn reads(_: *const Failures) []const tidegate.Reading {
        return &.{ .{ .context = "status" }, .{ .context = "routeKey" } };
    }

    pub fn write(self: *const Failures, records: []const tidegate.Record) !void {
        var lines: std.ArrayList([]const u8) = .empty;
        for (records) |record| {
            const status = record.get(0) orelse continue;
            if (try std.fmt.parseInt(u16, status, 10) < self.least) continue;
            const line = .{ status, record.get(1) orelse "-" };
            try lines.append(tidegate.allocator, try std.fmt.allocPrint(tidegate.allocator, "{s} {s}", line));
        }
        tidegate.log_output.write(lines.items);
    }
};

comptime {
    tidegate.exportPlugin(Failures);
}
