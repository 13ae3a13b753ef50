//! A function that greets.

const std = @import("std");
const tidegate = @import("tidegate");
const function = tidegate.functions;

fn handle(request: function.Request) !function.Response {
    if (!std.mem.eql(u8, request.path, "/greet")) return text(404, "there is no {s}\n", request.path);
    return text(200, "Hello, {s}!\n", try request.parameter("name") orelse "world");
}

fn text(status: u16, comptime format: []const u8, value: []const u8) !function.Response {
    return .{
        .status = status,
        .headers = &.{.{ .name = "content-type", .value = "text/plain" }},
        .body = try std.fmt.allocPrint(tidegate.allocator, format, .{value}),
    };
}

comptime {
    function.exportHandler(handle);
}
