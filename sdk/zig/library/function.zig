//! What a function in Zig is written with: a standard wasi:http component around a function that takes a whole request and
//! gives a whole response, `pub fn handle(request: Request) !Response`;
//! `comptime { tidegate.functions.exportHandler(handle); }` makes the component.
//!
//! What it gets and makes by `tidegate.allocator` lives until it returns. An error is 500, and its name is in the log.

const std = @import("std");
const tidegate = @import("tidegate.zig");
const Field = tidegate.Field;
const allocator = tidegate.allocator;

pub const Response = tidegate.Response;

pub const Request = struct {
    method: []const u8,
    /// Percent-encoded, without the query.
    path: []const u8,
    /// Without the `?`; empty where there is none.
    query: []const u8,
    headers: []const Field,
    body: []const u8,

    /// The value of the first field line of this name.
    pub fn header(self: Request, name: []const u8) ?[]const u8 {
        for (self.headers) |field| if (std.ascii.eqlIgnoreCase(field.name, name)) return field.value;
        return null;
    }

    /// The first value of a parameter of the query, decoded.
    pub fn parameter(self: Request, name: []const u8) !?[]const u8 {
        var parts = std.mem.splitScalar(u8, self.query, '&');
        while (parts.next()) |part| {
            const end = std.mem.findScalar(u8, part, '=') orelse part.len;
            if (!std.mem.eql(u8, try decode(part[0..end]), name)) continue;
            return try decode(part[@min(end + 1, part.len)..]);
        }
        return null;
    }

    fn decode(text: []const u8) ![]const u8 {
        const decoded = try allocator.dupe(u8, text);
        std.mem.replaceScalar(u8, decoded, '+', ' ');
        return std.Uri.percentDecodeInPlace(decoded);
    }
};

/// Makes a component of the handler.
pub fn exportHandler(comptime handler: anytype) void {
    const its = struct {
        fn handle(incoming: Handle, out: Handle) callconv(.c) void {
            tidegate.beginCall();
            const answer = respond(incoming) catch |failed| failure: {
                report(failed);
                break :failure Response{ .status = 500 };
            };
            send(answer, out) catch |failed| report(failed);
            tidegate.endCall();
        }

        fn respond(incoming: Handle) !Response {
            defer http.@"[resource-drop]incoming-request"(incoming);
            return handler(try receive(incoming));
        }
    };
    @export(&its.handle, .{ .name = "wasi:http/incoming-handler@0.2.12#handle" });
}

/// A resource of the host, by its number.
const Handle = u32;

fn receive(incoming: Handle) !Request {
    var target: tidegate.OptionalText = undefined;
    http.@"[method]incoming-request.path-with-query"(incoming, &target);
    const whole = target.slice() orelse "/";
    const mark = std.mem.findScalar(u8, whole, '?') orelse whole.len;
    return .{
        .method = methodOf(incoming),
        .path = whole[0..mark],
        .query = whole[@min(mark + 1, whole.len)..],
        .headers = fieldsOf(incoming),
        .body = try bodyOf(incoming),
    };
}

fn methodOf(incoming: Handle) []const u8 {
    const names = [_][]const u8{ "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH" };
    var method: extern struct { tag: u8, other: tidegate.Text } = undefined;
    http.@"[method]incoming-request.method"(incoming, @ptrCast(&method));
    return if (method.tag < names.len) names[method.tag] else method.other.slice();
}

fn fieldsOf(incoming: Handle) []const Field {
    const fields = http.@"[method]incoming-request.headers"(incoming);
    defer http.@"[resource-drop]fields"(fields);
    var entries: tidegate.Pairs = undefined;
    http.@"[method]fields.entries"(fields, &entries);
    return tidegate.liftFields(entries);
}

fn bodyOf(incoming: Handle) ![]const u8 {
    var body: Opened = undefined;
    http.@"[method]incoming-request.consume"(incoming, &body);
    if (body.failed != 0) return "";
    defer http.@"[resource-drop]future-trailers"(http.@"[static]incoming-body.finish"(body.handle));
    var stream: Opened = undefined;
    http.@"[method]incoming-body.stream"(body.handle, &stream);
    if (stream.failed != 0) return "";
    defer streams.@"[resource-drop]input-stream"(stream.handle);
    var whole: std.ArrayList(u8) = .empty;
    while (true) {
        var read: Read = undefined;
        streams.@"[method]input-stream.blocking-read"(stream.handle, 16 * chunk, &read);
        if (read.failed != 0) {
            read.payload.failure.drop();
            return whole.items; // the end, or the sender left: the host knows which
        }
        try whole.appendSlice(allocator, read.payload.octets.slice());
    }
}

fn send(response: Response, out: Handle) !void {
    const fields = http.@"[constructor]fields"();
    for (response.headers) |field| {
        var appended: extern struct { failed: u8, cause: u8 } = undefined;
        http.@"[method]fields.append"(fields, field.name.ptr, field.name.len, field.value.ptr, field.value.len, @ptrCast(&appended));
        // A field that HTTP has no room for is left out.
    }
    const outgoing = http.@"[constructor]outgoing-response"(fields);
    if (http.@"[method]outgoing-response.set-status-code"(outgoing, response.status) != 0) return error.NoSuchStatus;
    var body: Opened = undefined;
    http.@"[method]outgoing-response.body"(outgoing, &body);
    if (body.failed != 0) return error.BodyTaken;
    http.@"[static]response-outparam.set"(out, 0, outgoing, 0, 0, 0, 0, 0, 0); // an ok: nothing of an error's
    var stream: Opened = undefined;
    http.@"[method]outgoing-body.write"(body.handle, &stream);
    if (stream.failed == 0) {
        writeAll(stream.handle, response.body);
        streams.@"[resource-drop]output-stream"(stream.handle);
    }
    // An error is that the viewer left. It is the largest variant that there is, and nothing is read of it.
    var finished: [40]u8 align(8) = undefined;
    http.@"[static]outgoing-body.finish"(body.handle, 0, 0, &finished);
}

fn writeAll(stream: Handle, content: []const u8) void {
    var rest = content;
    while (rest.len > 0) {
        const part = rest[0..@min(rest.len, chunk)];
        var written: Written = undefined;
        streams.@"[method]output-stream.blocking-write-and-flush"(stream, part.ptr, part.len, &written);
        if (written.failed != 0) return written.failure.drop(); // the viewer left
        rest = rest[part.len..];
    }
}

/// A line for the log, with the request's id.
fn report(failed: anyerror) void {
    const stream = stderr.@"get-stderr"();
    writeAll(stream, tidegate.reasonOf(failed));
    writeAll(stream, "\n");
    streams.@"[resource-drop]output-stream"(stream);
}

/// The most that a blocking write takes.
const chunk = 4096;

// ---- wasi:http and wasi:io, by the canonical ABI ----

/// `result<own<T>>`.
const Opened = extern struct { failed: u8, handle: Handle };

/// `stream-error`: that an operation failed, with an error, or that the stream is closed.
const StreamError = extern struct {
    tag: u8,
    cause: Handle,

    fn drop(self: StreamError) void {
        if (self.tag == 0) errors.@"[resource-drop]error"(self.cause);
    }
};

const Read = extern struct { failed: u8, payload: extern union { octets: tidegate.Text, failure: StreamError } };
const Written = extern struct { failed: u8, failure: StreamError };

const http = struct {
    extern "wasi:http/types@0.2.12" fn @"[method]incoming-request.method"(Handle, *anyopaque) void;
    extern "wasi:http/types@0.2.12" fn @"[method]incoming-request.path-with-query"(Handle, *tidegate.OptionalText) void;
    extern "wasi:http/types@0.2.12" fn @"[method]incoming-request.headers"(Handle) Handle;
    extern "wasi:http/types@0.2.12" fn @"[method]incoming-request.consume"(Handle, *Opened) void;
    extern "wasi:http/types@0.2.12" fn @"[resource-drop]incoming-request"(Handle) void;
    extern "wasi:http/types@0.2.12" fn @"[method]incoming-body.stream"(Handle, *Opened) void;
    extern "wasi:http/types@0.2.12" fn @"[static]incoming-body.finish"(Handle) Handle;
    extern "wasi:http/types@0.2.12" fn @"[resource-drop]future-trailers"(Handle) void;
    extern "wasi:http/types@0.2.12" fn @"[constructor]fields"() Handle;
    extern "wasi:http/types@0.2.12" fn @"[method]fields.entries"(Handle, *tidegate.Pairs) void;
    extern "wasi:http/types@0.2.12" fn @"[method]fields.append"(Handle, [*]const u8, usize, [*]const u8, usize, *anyopaque) void;
    extern "wasi:http/types@0.2.12" fn @"[resource-drop]fields"(Handle) void;
    extern "wasi:http/types@0.2.12" fn @"[constructor]outgoing-response"(Handle) Handle;
    extern "wasi:http/types@0.2.12" fn @"[method]outgoing-response.set-status-code"(Handle, u32) u32;
    extern "wasi:http/types@0.2.12" fn @"[method]outgoing-response.body"(Handle, *Opened) void;
    /// The outcome's flat form: ok or error, and room for the largest error.
    extern "wasi:http/types@0.2.12" fn @"[static]response-outparam.set"(Handle, u32, Handle, u32, u64, u32, u32, u32, u32) void;
    extern "wasi:http/types@0.2.12" fn @"[method]outgoing-body.write"(Handle, *Opened) void;
    extern "wasi:http/types@0.2.12" fn @"[static]outgoing-body.finish"(Handle, u32, Handle, *anyopaque) void;
};

const streams = struct {
    extern "wasi:io/streams@0.2.12" fn @"[method]input-stream.blocking-read"(Handle, u64, *Read) void;
    extern "wasi:io/streams@0.2.12" fn @"[resource-drop]input-stream"(Handle) void;
    extern "wasi:io/streams@0.2.12" fn @"[method]output-stream.blocking-write-and-flush"(Handle, [*]const u8, usize, *Written) void;
    extern "wasi:io/streams@0.2.12" fn @"[resource-drop]output-stream"(Handle) void;
};

const errors = struct {
    extern "wasi:io/error@0.2.12" fn @"[resource-drop]error"(Handle) void;
};

const stderr = struct {
    extern "wasi:cli/stderr@0.2.12" fn @"get-stderr"() Handle;
};
