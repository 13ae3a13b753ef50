//! What a Tidegate plugin in Zig is written with: the contract by the canonical ABI's own names, no generated code.
//!
//! A plugin is a struct with `pub fn configure(Configuration) !Self` and a method for each step that its plugin.toml names;
//! `comptime { tidegate.exportPlugin(Self); }` makes a component of it:
//!
//!     pub fn authorize(self: *const Self) !Verdict
//!     pub fn admit(self: *const Self) !Admission
//!     pub fn validate(self: *const Self) !Validity
//!     pub fn transformRequest(self: *const Self) !Outcome
//!     pub fn integrate(self: *const Self) !Plan
//!     pub fn transformResponse(self: *const Self) ![]const Edit
//!     pub fn write(self: *const Self, records: []const Record) !void
//!
//! `pub fn reads(self: *const Self) []const Reading` names values to be handed over with each call.
//!
//! An error in `configure` refuses the deployment; in a step it means that no decision could be made, and the binding's
//! fault policy applies. `fail` gives it a sentence.
//!
//! What the host gives and what `allocator` makes lives until the step call ends (in `configure`: for ever), so there is
//! nothing to free. A component imports only the interfaces whose functions it calls, so a binding needs grants for those
//! only. Units and bounds are documented in the WIT package tidegate:gateway.

const std = @import("std");

/// Standard wasi:http components, with functions for requests in the place of steps.
pub const functions = @import("function.zig");

// ---- Outcomes ----

/// A name and its value.
pub const Field = struct { name: []const u8, value: []const u8 };

pub const Verdict = union(enum) {
    /// Proceed, as this principal.
    allow: Principal,
    /// 401, with a `WWW-Authenticate` challenge.
    unauthorized: ?[]const u8,
    /// 403; the reason is for the log.
    forbidden: ?[]const u8,
};

pub const Principal = struct {
    id: []const u8,
    /// Each becomes `$context.authorizer.{name}`.
    context: []const Field = &.{},
    usage_identifier_key: ?[]const u8 = null,
};

pub const Admission = union(enum) {
    admit,
    /// 429; the milliseconds until a retry can succeed.
    reject: u32,
    /// 429, of a quota; the milliseconds until it begins anew.
    exceeded: u32,
};

pub const Validity = union(enum) {
    valid,
    /// 400, with a message for the caller.
    invalid_parameters: []const u8,
    /// 400, with a message for the caller.
    invalid_body: []const u8,
    /// 415.
    unsupported_media_type,
};

/// A change to a message; they are applied in their order.
pub const Edit = union(enum) {
    set_header: Field,
    append_header: Field,
    remove_header: []const u8,
    rename_header: Renaming,
    /// Of requests only, as the next three.
    set_query_parameter: Field,
    remove_query_parameter: []const u8,
    rename_query_parameter: Renaming,
    set_path: []const u8,
    /// Of responses only.
    set_status: u16,
    set_body: []const u8,
};

pub const Renaming = struct { from: []const u8, to: []const u8 };

pub const Response = struct {
    status: u16 = 200,
    headers: []const Field = &.{},
    body: []const u8 = "",
};

pub const Outcome = union(enum) {
    edits: []const Edit,
    /// Answers with this; the integration is not called.
    respond: Response,
};

pub const Plan = union(enum) {
    /// Sends the request to a server: an upstream of the node, or a granted host.
    forward: struct { uri: []const u8, method: ?[]const u8 = null, edits: []const Edit = &.{}, timeout_ms: ?u32 = null },
    /// Invokes a function of the node.
    invoke: struct { function: []const u8, edits: []const Edit = &.{}, timeout_ms: ?u32 = null },
    respond: Response,
};

/// A value that the host hands over with each call, which costs half of asking for it. At most 64.
pub const Reading = union(enum) {
    method,
    path,
    query_string,
    header: []const u8,
    query_parameter: []const u8,
    path_parameter: []const u8,
    stage_variable: []const u8,
    /// A variable of `$context`, without the prefix: `requestId`.
    context: []const u8,
};

/// One served request, in `write`. Nothing else is known of it: `request` traps there.
pub const Record = struct {
    values: []const OptionalText,

    const Lowered = extern struct { ptr: [*]const OptionalText, len: usize };

    /// The value of the reading at this place; null where the request had none.
    pub fn get(self: Record, place: usize) ?[]const u8 {
        return if (place < self.values.len) self.values[place].slice() else null;
    }
};

/// In a step call, the value of the reading at this place; null where the request has none.
pub fn given(place: usize) ?[]const u8 {
    return current.get(place);
}

var current: Record = .{ .values = &.{} };

/// An error with a sentence: `return tidegate.fail("no such key")`.
pub fn fail(reason: []const u8) error{Failed} {
    failure = reason;
    return error.Failed;
}

var failure: []const u8 = "";

// ---- The configuration ----

/// A binding's: one JSON document, which the host has checked against the plugin's schema.
pub const Configuration = struct {
    json: []const u8,

    /// As a struct, whose fields are the object's members; a default is for one that is not there.
    pub fn parse(self: Configuration, comptime T: type) !T {
        return std.json.parseFromSliceLeaky(T, allocator, self.json, .{ .ignore_unknown_fields = true });
    }
};

// ---- Memory ----

/// What it makes lives until the call ends; in `configure`, for ever.
pub const allocator: std.mem.Allocator = .{ .ptr = undefined, .vtable = &.{
    .alloc = arenaAlloc,
    .resize = arenaResize,
    .remap = arenaRemap,
    .free = arenaFree,
} };

var lasting = std.heap.ArenaAllocator.init(std.heap.wasm_allocator);
var passing = std.heap.ArenaAllocator.init(std.heap.wasm_allocator);
var configured = false;

fn arena() std.mem.Allocator {
    return if (configured) passing.allocator() else lasting.allocator();
}

fn arenaAlloc(_: *anyopaque, len: usize, alignment: std.mem.Alignment, address: usize) ?[*]u8 {
    return arena().rawAlloc(len, alignment, address);
}

fn arenaResize(_: *anyopaque, memory: []u8, alignment: std.mem.Alignment, len: usize, address: usize) bool {
    return arena().rawResize(memory, alignment, len, address);
}

fn arenaRemap(_: *anyopaque, memory: []u8, alignment: std.mem.Alignment, len: usize, address: usize) ?[*]u8 {
    return arena().rawRemap(memory, alignment, len, address);
}

fn arenaFree(_: *anyopaque, memory: []u8, alignment: std.mem.Alignment, address: usize) void {
    arena().rawFree(memory, alignment, address);
}

/// Where the host puts what it passes (canonical ABI, `realloc`).
export fn cabi_realloc(old: ?[*]u8, old_size: usize, alignment: usize, new_size: usize) [*]u8 {
    const made = arena().rawAlloc(@max(new_size, 1), std.mem.Alignment.fromByteUnits(alignment), 0) orelse @trap();
    if (old) |from| @memcpy(made[0..@min(old_size, new_size)], from[0..@min(old_size, new_size)]);
    return made;
}

// ---- What the canonical ABI makes of the contract's types ----

/// Where a list without items is: the host wants an address in the memory, also of nothing.
fn nothing(comptime T: type) [*]const T {
    return @ptrFromInt(16);
}

pub const Text = extern struct {
    ptr: [*]const u8,
    len: usize,

    fn of(text: []const u8) Text {
        return .{ .ptr = if (text.len == 0) nothing(u8) else text.ptr, .len = text.len };
    }

    pub fn slice(self: Text) []const u8 {
        return self.ptr[0..self.len];
    }
};

pub const OptionalText = extern struct {
    some: u8,
    text: Text,

    fn of(text: ?[]const u8) OptionalText {
        return .{ .some = @intFromBool(text != null), .text = .of(text orelse "") };
    }

    pub fn slice(self: OptionalText) ?[]const u8 {
        return if (self.some != 0) self.text.slice() else null;
    }
};

pub const Pair = extern struct { name: Text, value: Text };
pub const Pairs = extern struct { ptr: [*]const Pair, len: usize };
const Texts = extern struct {
    ptr: [*]const Text,
    len: usize,

    fn of(texts: []const []const u8) Texts {
        const lowered = allocator.alloc(Text, texts.len) catch @trap();
        for (texts, lowered) |text, *place| place.* = .of(text);
        return .{ .ptr = if (lowered.len == 0) nothing(Text) else lowered.ptr, .len = lowered.len };
    }
};

const OptionalNumber = extern struct { some: u8, value: u32 };
const LoweredEdit = extern struct { tag: u8, first: Text, second: Text };
const LoweredEdits = extern struct { ptr: [*]const LoweredEdit, len: usize };
const LoweredResponse = extern struct { status: u16, headers: Pairs, body: Text };

fn lowerFields(fields: []const Field) Pairs {
    const pairs = allocator.alloc(Pair, fields.len) catch @trap();
    for (fields, pairs) |field, *pair| pair.* = .{ .name = .of(field.name), .value = .of(field.value) };
    return .{ .ptr = if (pairs.len == 0) nothing(Pair) else pairs.ptr, .len = pairs.len };
}

pub fn liftFields(pairs: Pairs) []const Field {
    const fields = allocator.alloc(Field, pairs.len) catch @trap();
    for (pairs.ptr[0..pairs.len], fields) |pair, *field| {
        field.* = .{ .name = pair.name.slice(), .value = pair.value.slice() };
    }
    return fields;
}

fn lowerResponse(response_: Response) LoweredResponse {
    return .{ .status = response_.status, .headers = lowerFields(response_.headers), .body = .of(response_.body) };
}

fn lowerEdits(edits: []const Edit) LoweredEdits {
    const lowered = allocator.alloc(LoweredEdit, edits.len) catch @trap();
    for (edits, lowered) |edit, *place| place.* = lowerEdit(edit);
    return .{ .ptr = if (lowered.len == 0) nothing(LoweredEdit) else lowered.ptr, .len = lowered.len };
}

fn lowerEdit(edit: Edit) LoweredEdit {
    // The union's order is the variant's.
    const tag: u8 = @backingInt(std.meta.activeTag(edit));
    const first: []const u8, const second: []const u8 = switch (edit) {
        .set_header, .append_header, .set_query_parameter => |field| .{ field.name, field.value },
        .rename_header, .rename_query_parameter => |renaming| .{ renaming.from, renaming.to },
        .remove_header, .remove_query_parameter, .set_path, .set_body => |text| .{ text, "" },
        .set_status => |status| {
            var lowered: LoweredEdit = .{ .tag = tag, .first = .of(""), .second = .of("") };
            @as(*u16, @ptrCast(&lowered.first)).* = status;
            return lowered;
        },
    };
    return .{ .tag = tag, .first = .of(first), .second = .of(second) };
}

// ---- The request in hand ----

pub const request = struct {
    const host = struct {
        extern "tidegate:gateway/request@0.1.0" fn method(*Text) void;
        extern "tidegate:gateway/request@0.1.0" fn path(*Text) void;
        extern "tidegate:gateway/request@0.1.0" fn @"query-string"(*OptionalText) void;
        extern "tidegate:gateway/request@0.1.0" fn header([*]const u8, usize, *OptionalText) void;
        extern "tidegate:gateway/request@0.1.0" fn headers(*Pairs) void;
        extern "tidegate:gateway/request@0.1.0" fn @"query-parameter"([*]const u8, usize, *OptionalText) void;
        extern "tidegate:gateway/request@0.1.0" fn @"query-parameters"(*Pairs) void;
        extern "tidegate:gateway/request@0.1.0" fn @"path-parameter"([*]const u8, usize, *OptionalText) void;
        extern "tidegate:gateway/request@0.1.0" fn @"path-parameters"(*Pairs) void;
        extern "tidegate:gateway/request@0.1.0" fn @"stage-variable"([*]const u8, usize, *OptionalText) void;
        extern "tidegate:gateway/request@0.1.0" fn context([*]const u8, usize, *OptionalText) void;
    };

    pub fn method() []const u8 {
        return readText(host.method);
    }

    /// Below the stage, percent-encoded, without the query.
    pub fn path() []const u8 {
        return readText(host.path);
    }

    pub fn queryString() ?[]const u8 {
        var found: OptionalText = undefined;
        host.@"query-string"(&found);
        return found.slice();
    }

    pub fn header(name: []const u8) ?[]const u8 {
        return lookUp(host.header, name);
    }

    /// All field lines in the order received, names in lower case.
    pub fn headers() []const Field {
        return readFields(host.headers);
    }

    pub fn queryParameter(name: []const u8) ?[]const u8 {
        return lookUp(host.@"query-parameter", name);
    }

    pub fn queryParameters() []const Field {
        return readFields(host.@"query-parameters");
    }

    pub fn pathParameter(name: []const u8) ?[]const u8 {
        return lookUp(host.@"path-parameter", name);
    }

    pub fn pathParameters() []const Field {
        return readFields(host.@"path-parameters");
    }

    pub fn stageVariable(name: []const u8) ?[]const u8 {
        return lookUp(host.@"stage-variable", name);
    }

    /// A variable of `$context`, without the prefix: `requestId`.
    pub fn context(name: []const u8) ?[]const u8 {
        return lookUp(host.context, name);
    }

    /// The content. A component that calls it makes the host collect the body first.
    pub fn body() []const u8 {
        const its = struct {
            extern "tidegate:gateway/request-body@0.1.0" fn read(*Text) void;
        };
        return readText(its.read);
    }
};

/// The response in hand, in `transformResponse`.
pub const response = struct {
    const host = struct {
        extern "tidegate:gateway/response@0.1.0" fn status() u32;
        extern "tidegate:gateway/response@0.1.0" fn header([*]const u8, usize, *OptionalText) void;
        extern "tidegate:gateway/response@0.1.0" fn headers(*Pairs) void;
    };

    pub fn status() u16 {
        return @intCast(host.status());
    }

    pub fn header(name: []const u8) ?[]const u8 {
        return lookUp(host.header, name);
    }

    pub fn headers() []const Field {
        return readFields(host.headers);
    }

    /// The content. A component that calls it makes the host collect the body first.
    pub fn body() []const u8 {
        const its = struct {
            extern "tidegate:gateway/response-body@0.1.0" fn read(*Text) void;
        };
        return readText(its.read);
    }
};

fn readText(comptime function: anytype) []const u8 {
    var text: Text = undefined;
    function(&text);
    return text.slice();
}

fn readFields(comptime function: anytype) []const Field {
    var pairs: Pairs = undefined;
    function(&pairs);
    return liftFields(pairs);
}

fn lookUp(comptime function: anytype, name: []const u8) ?[]const u8 {
    var found: OptionalText = undefined;
    function(name.ptr, name.len, &found);
    return found.slice();
}

// ---- What a binding must be granted ----

/// Grant: `crypto`.
pub const crypto = struct {
    const host = struct {
        extern "tidegate:gateway/crypto@0.1.0" fn digest(u32, [*]const u8, usize, *Text) void;
        extern "tidegate:gateway/crypto@0.1.0" fn hmac(u32, [*]const u8, usize, [*]const u8, usize, *Text) void;
        extern "tidegate:gateway/crypto@0.1.0" fn equal([*]const u8, usize, [*]const u8, usize) u32;
    };

    pub const Algorithm = enum(u32) { sha256, sha384, sha512 };

    pub fn digest(algorithm: Algorithm, data: []const u8) []const u8 {
        var output: Text = undefined;
        host.digest(@backingInt(algorithm), data.ptr, data.len, &output);
        return output.slice();
    }

    pub fn hmac(algorithm: Algorithm, key: []const u8, data: []const u8) []const u8 {
        var output: Text = undefined;
        host.hmac(@backingInt(algorithm), key.ptr, key.len, data.ptr, data.len, &output);
        return output.slice();
    }

    /// Compares in a time that depends on the lengths only.
    pub fn equal(a: []const u8, b: []const u8) bool {
        return host.equal(a.ptr, a.len, b.ptr, b.len) != 0;
    }

    pub const Signature = enum(u32) { hs256, hs384, hs512, rs256, rs384, rs512, ps256, ps384, ps512, es256, es384, ed_dsa };

    /// Whether the signature is the message's under the key, a JSON Web Key; an error where that is unfit.
    pub fn verify(algorithm: Signature, key: []const u8, message: []const u8, signature: []const u8) !bool {
        const its = struct {
            extern "tidegate:gateway/crypto@0.1.0" fn verify(u32, [*]const u8, usize, [*]const u8, usize, [*]const u8, usize, *Result(bool)) void;
        };
        var result: Result(bool) = undefined;
        its.verify(@backingInt(algorithm), key.ptr, key.len, message.ptr, message.len, signature.ptr, signature.len, &result);
        return if (result.tag == 0) result.payload.ok else fail(result.payload.err.slice());
    }
};

/// Key sets of identity providers. Grant: `jwks`.
pub const jwks = struct {
    const host = struct {
        extern "tidegate:gateway/jwks@0.1.0" fn fetch([*]const u8, usize, u32, *Result(Text)) void;
    };

    pub const Refresh = enum(u32) {
        no,
        /// Fetches it again, at most once in 30 seconds: for a token that names an unknown key.
        yes,
    };

    /// The key set at `uri`, as JSON.
    pub fn fetch(uri: []const u8, refresh: Refresh) ![]const u8 {
        var result: Result(Text) = undefined;
        host.fetch(uri.ptr, uri.len, @backingInt(refresh), &result);
        return if (result.tag == 0) result.payload.ok.slice() else fail(result.payload.err.slice());
    }

    /// The key with this `kid` in a set, as JSON; null where there is none.
    pub fn find(keys: []const u8, id: []const u8) !?[]const u8 {
        const Set = struct { keys: []const std.json.Value };
        const set = try (Configuration{ .json = keys }).parse(Set);
        for (set.keys) |key| {
            if (key != .object) continue;
            const kid = key.object.get("kid") orelse continue;
            if (kid == .string and std.mem.eql(u8, kid.string, id)) {
                return try std.json.Stringify.valueAlloc(allocator, key, .{});
            }
        }
        return null;
    }
};

/// The node's API keys. Grant: `api-keys`.
pub const api_keys = struct {
    const host = struct {
        extern "tidegate:gateway/api-keys@0.1.0" fn find([*]const u8, usize, *Found) void;
    };
    const Found = extern struct { some: u8, id: Text, name: Text };

    pub const ApiKey = struct { id: []const u8, name: []const u8 };

    /// The enabled key of this value whose usage plan includes this API and stage.
    pub fn find(value: []const u8) ?ApiKey {
        var found: Found = undefined;
        host.find(value.ptr, value.len, &found);
        return if (found.some != 0) .{ .id = found.id.slice(), .name = found.name.slice() } else null;
    }
};

/// Where log records go. Grant: `log-output`.
pub const log_output = struct {
    const host = struct {
        extern "tidegate:gateway/log-output@0.1.0" fn write([*]const Text, usize) void;
    };

    /// Writes whole lines to the binding's destination; the host adds the line ends.
    pub fn write(lines: []const []const u8) void {
        const lowered: Texts = .of(lines);
        host.write(lowered.ptr, lowered.len);
    }
};

/// Requests to other servers. Grant: `http-client`.
pub const http_client = struct {
    const host = struct {
        extern "tidegate:gateway/http-client@0.1.0" fn send(
            [*]const u8,
            usize,
            [*]const u8,
            usize,
            [*]const Pair,
            usize,
            [*]const u8,
            usize,
            u32,
            *Answer,
        ) void;
    };
    const HttpError = extern struct { tag: u8, reason: Text };
    const Answer = extern struct { tag: u8, payload: extern union { ok: LoweredResponse, err: HttpError } };

    pub const Request = struct {
        method: []const u8 = "GET",
        /// Absolute, `http` or `https`.
        uri: []const u8,
        headers: []const Field = &.{},
        body: []const u8 = "",
        timeout_ms: u32 = 5000,
    };

    /// Sends it and waits for the whole response.
    pub fn send(asked: Request) !Response {
        const method: Text = .of(asked.method);
        const uri: Text = .of(asked.uri);
        const headers = lowerFields(asked.headers);
        const body: Text = .of(asked.body);
        var got: Answer = undefined;
        host.send(method.ptr, method.len, uri.ptr, uri.len, headers.ptr, headers.len, body.ptr, body.len, asked.timeout_ms, &got);
        if (got.tag != 0) return fail(switch (got.payload.err.tag) {
            0 => "the host is not granted",
            3 => "no answer in time",
            4 => "the response is over 1 MiB",
            else => got.payload.err.reason.slice(),
        });
        const whole = got.payload.ok;
        return .{ .status = whole.status, .headers = liftFields(whole.headers), .body = whole.body.slice() };
    }
};

/// A cache that all instances of a binding share. Grant: `shared-cache`.
pub const shared_cache = struct {
    const host = struct {
        extern "tidegate:gateway/shared-cache@0.1.0" fn get([*]const u8, usize, *OptionalText) void;
        extern "tidegate:gateway/shared-cache@0.1.0" fn set([*]const u8, usize, [*]const u8, usize, u32) void;
        extern "tidegate:gateway/shared-cache@0.1.0" fn delete([*]const u8, usize) void;
    };

    pub fn get(key: []const u8) ?[]const u8 {
        return lookUp(host.get, key);
    }

    pub fn set(key: []const u8, value: []const u8, ttl_ms: u32) void {
        host.set(key.ptr, key.len, value.ptr, value.len, ttl_ms);
    }

    pub fn delete(key: []const u8) void {
        host.delete(key.ptr, key.len);
    }
};

/// Token buckets. Grant: `rate-limit`.
pub const rate_limit = struct {
    extern "tidegate:gateway/rate-limit@0.1.0" fn take([*]const u8, usize, f64, u32, *OptionalNumber) void;

    /// Takes a token: null where there was one, or the milliseconds until there is.
    pub fn takeToken(bucket: []const u8, rate: f64, burst: u32) ?u32 {
        var taken: OptionalNumber = undefined; // the variant's layout is the option's
        take(bucket.ptr, bucket.len, rate, burst, &taken);
        return if (taken.some != 0) taken.value else null;
    }
};

/// What may be taken in a day, week or month, counted for all nodes. Grant: `quota`.
pub const quota = struct {
    const host = struct {
        extern "tidegate:gateway/quota@0.1.0" fn take([*]const u8, usize, u32, u32, u32, u32, *Result(LoweredTaken)) void;
    };
    const LoweredTaken = extern struct { tag: u8, left: u32, renews_in_ms: u32 };

    pub const Period = enum(u32) { day, week, month };

    pub const Terms = struct {
        /// In one period.
        limit: u32,
        /// Subtracted from the limit in the period of the first use.
        offset: u32 = 0,
        period: Period,
    };

    pub const Standing = struct {
        /// What may still be taken in this period.
        left: u32,
        /// The milliseconds until the next one begins.
        renews_in_ms: u32,
    };

    pub const Taken = union(enum) {
        admitted: Standing,
        /// Nothing was taken.
        exceeded: Standing,
    };

    /// Takes `amount`, 0 to look only; an error where that is not possible.
    pub fn take(key: []const u8, amount: u32, terms: Terms) !Taken {
        var result: Result(LoweredTaken) = undefined;
        host.take(key.ptr, key.len, amount, terms.limit, terms.offset, @backingInt(terms.period), &result);
        if (result.tag != 0) return fail(result.payload.err.slice());
        const taken = result.payload.ok;
        const standing: Standing = .{ .left = taken.left, .renews_in_ms = taken.renews_in_ms };
        return if (taken.tag == 0) .{ .admitted = standing } else .{ .exceeded = standing };
    }
};

/// Secrets by name. Grant: `secrets`.
pub const secrets = struct {
    const host = struct {
        extern "tidegate:gateway/secrets@0.1.0" fn get([*]const u8, usize, *OptionalText) void;
    };

    pub fn get(name: []const u8) ?[]const u8 {
        return lookUp(host.get, name);
    }
};

/// Counters of the plugin's own. Grant: `metrics`.
pub const metrics = struct {
    const host = struct {
        extern "tidegate:gateway/metrics@0.1.0" fn count([*]const u8, usize, u32) void;
    };

    pub fn count(event: []const u8, amount: u32) void {
        host.count(event.ptr, event.len, amount);
    }
};

/// The node's log, with the binding's name and the request's id. Needs no grant.
pub const log = struct {
    const host = struct {
        extern "tidegate:gateway/log@0.1.0" fn write(u32, [*]const u8, usize) void;
    };

    const Level = enum(u32) { trace, debug, info, warn, @"error" };

    pub fn debug(message: []const u8) void {
        line(.debug, message);
    }

    pub fn info(message: []const u8) void {
        line(.info, message);
    }

    pub fn warn(message: []const u8) void {
        line(.warn, message);
    }

    pub fn err(message: []const u8) void {
        line(.@"error", message);
    }

    fn line(level: Level, message: []const u8) void {
        host.write(@backingInt(level), message.ptr, message.len);
    }
};

// ---- The exports ----

/// Makes a component of a plugin: exports `configure` and every step that it has a method for.
pub fn exportPlugin(comptime Plugin: type) void {
    const its = struct {
        var plugin: Plugin = undefined;

        fn configure(ptr: [*]const u8, len: usize) callconv(.c) *const Result(Setup) {
            plugin = Plugin.configure(.{ .json = ptr[0..len] }) catch |failed| return failedWith(Setup, failed);
            const reads: []const Reading = if (@hasDecl(Plugin, "reads")) plugin.reads() else &.{};
            const setup = succeeded(Setup, .{ .reads = lowerReadings(reads) });
            configured = true;
            return setup;
        }

        fn authorize(values: [*]const OptionalText, len: usize) callconv(.c) *const Result(LoweredVerdict) {
            current = .{ .values = values[0..len] };
            const verdict = plugin.authorize() catch |failed| return failedWith(LoweredVerdict, failed);
            return succeeded(LoweredVerdict, lowerVerdict(verdict));
        }

        fn admit(values: [*]const OptionalText, len: usize) callconv(.c) *const Result(LoweredAdmission) {
            current = .{ .values = values[0..len] };
            const admission: Admission = plugin.admit() catch |failed| return failedWith(LoweredAdmission, failed);
            return succeeded(LoweredAdmission, .{
                .tag = @backingInt(std.meta.activeTag(admission)), // the union's order is the variant's
                .retry_ms = switch (admission) {
                    .admit => 0,
                    .reject, .exceeded => |retry_ms| retry_ms,
                },
            });
        }

        fn validate(values: [*]const OptionalText, len: usize) callconv(.c) *const Result(OptionalText) {
            current = .{ .values = values[0..len] };
            const validity: Validity = plugin.validate() catch |failed| return failedWith(OptionalText, failed);
            const message: []const u8 = switch (validity) {
                .valid, .unsupported_media_type => "",
                .invalid_parameters, .invalid_body => |message| message,
            };
            const tag: u8 = @backingInt(std.meta.activeTag(validity));
            return succeeded(OptionalText, .{ .some = tag, .text = .of(message) });
        }

        fn transformRequest(values: [*]const OptionalText, len: usize) callconv(.c) *const Result(LoweredOutcome) {
            current = .{ .values = values[0..len] };
            const outcome: Outcome = plugin.transformRequest() catch |failed| return failedWith(LoweredOutcome, failed);
            return succeeded(LoweredOutcome, switch (outcome) {
                .edits => |edits| .{ .tag = 0, .payload = .{ .edits = lowerEdits(edits) } },
                .respond => |whole| .{ .tag = 1, .payload = .{ .respond = lowerResponse(whole) } },
            });
        }

        fn integrate(values: [*]const OptionalText, len: usize) callconv(.c) *const Result(LoweredPlan) {
            current = .{ .values = values[0..len] };
            const plan: Plan = plugin.integrate() catch |failed| return failedWith(LoweredPlan, failed);
            return succeeded(LoweredPlan, lowerPlan(plan));
        }

        fn transformResponse(values: [*]const OptionalText, len: usize) callconv(.c) *const Result(LoweredEdits) {
            current = .{ .values = values[0..len] };
            const edits = plugin.transformResponse() catch |failed| return failedWith(LoweredEdits, failed);
            return succeeded(LoweredEdits, lowerEdits(edits));
        }

        fn write(records: [*]const Record.Lowered, len: usize) callconv(.c) *const Result(Text) {
            const lifted = allocator.alloc(Record, len) catch @trap();
            for (records[0..len], lifted) |record, *place| place.* = .{ .values = record.ptr[0..record.len] };
            plugin.write(lifted) catch |failed| return failedWith(Text, failed);
            return succeeded(Text, .of("")); // nothing is in an ok
        }
    };
    exportFunction(&its.configure, "plugin", "configure");
    if (@hasDecl(Plugin, "authorize")) exportFunction(&its.authorize, "authorizer", "authorize");
    if (@hasDecl(Plugin, "admit")) exportFunction(&its.admit, "throttle", "admit");
    if (@hasDecl(Plugin, "validate")) exportFunction(&its.validate, "validator", "validate");
    if (@hasDecl(Plugin, "transformRequest")) exportFunction(&its.transformRequest, "request-transform", "transform-request");
    if (@hasDecl(Plugin, "integrate")) exportFunction(&its.integrate, "integration", "integrate");
    if (@hasDecl(Plugin, "transformResponse")) exportFunction(&its.transformResponse, "response-transform", "transform-response");
    if (@hasDecl(Plugin, "write")) exportFunction(&its.write, "log-sink", "write");
}

fn exportFunction(comptime function: anytype, comptime interface: []const u8, comptime name: []const u8) void {
    const full = "tidegate:gateway/" ++ interface ++ "@0.1.0#" ++ name;
    @export(function, .{ .name = full });
    // Called once the host has read the answer.
    @export(&postReturn, .{ .name = "cabi_post_" ++ full });
}

fn postReturn(_: *const anyopaque) callconv(.c) void {
    endCall();
}

/// What is made from now on lives until the call ends.
pub fn beginCall() void {
    configured = true;
}

pub fn endCall() void {
    _ = passing.reset(.retain_capacity);
}

/// `result<T, string>`.
fn Result(comptime T: type) type {
    return extern struct { tag: u8, payload: extern union { ok: T, err: Text } };
}

fn succeeded(comptime T: type, value: T) *const Result(T) {
    return answer(T, .{ .tag = 0, .payload = .{ .ok = value } });
}

fn failedWith(comptime T: type, failed: anyerror) *const Result(T) {
    return answer(T, .{ .tag = 1, .payload = .{ .err = .of(reasonOf(failed)) } });
}

/// The sentence of `fail`, or the error's name.
pub fn reasonOf(failed: anyerror) []const u8 {
    return if (failed == error.Failed) failure else @errorName(failed);
}

fn answer(comptime T: type, result: Result(T)) *const Result(T) {
    const place = allocator.create(Result(T)) catch @trap();
    place.* = result;
    return place;
}

/// `setup` with nothing that stands: zeros, but for pointers, which are not looked at.
const Setup = extern struct { reads: Readings, standing: [18]u32 = @splat(0) };

const LoweredReading = extern struct { tag: u8, name: Text };
const Readings = extern struct { ptr: [*]const LoweredReading, len: usize };

fn lowerReadings(readings: []const Reading) Readings {
    const lowered = allocator.alloc(LoweredReading, readings.len) catch @trap();
    for (readings, lowered) |reading, *place| {
        // The union's order is the variant's.
        place.tag = @backingInt(std.meta.activeTag(reading));
        place.name = .of(switch (reading) {
            .method, .path, .query_string => "",
            inline else => |name| name,
        });
    }
    return .{ .ptr = if (lowered.len == 0) nothing(LoweredReading) else lowered.ptr, .len = lowered.len };
}

const LoweredPrincipal = extern struct { id: Text, context: Pairs, key: OptionalText };
const LoweredVerdict = extern struct {
    tag: u8,
    payload: extern union { allow: LoweredPrincipal, reason: OptionalText },
};

fn lowerVerdict(verdict: Verdict) LoweredVerdict {
    return .{ .tag = @backingInt(std.meta.activeTag(verdict)), .payload = switch (verdict) {
        .allow => |principal| .{ .allow = .{
            .id = .of(principal.id),
            .context = lowerFields(principal.context),
            .key = .of(principal.usage_identifier_key),
        } },
        .unauthorized, .forbidden => |reason| .{ .reason = .of(reason) },
    } };
}

const LoweredAdmission = extern struct { tag: u8, retry_ms: u32 };

const LoweredOutcome = extern struct {
    tag: u8,
    payload: extern union { edits: LoweredEdits, respond: LoweredResponse },
};

const LoweredForward = extern struct { uri: Text, method: OptionalText, edits: LoweredEdits, timeout_ms: OptionalNumber };
const LoweredInvocation = extern struct { function: Text, edits: LoweredEdits, timeout_ms: OptionalNumber };
const LoweredPlan = extern struct {
    tag: u8,
    payload: extern union { forward: LoweredForward, invoke: LoweredInvocation, respond: LoweredResponse },
};

fn lowerPlan(plan: Plan) LoweredPlan {
    return .{ .tag = @backingInt(std.meta.activeTag(plan)), .payload = switch (plan) {
        .forward => |it| .{ .forward = .{
            .uri = .of(it.uri),
            .method = .of(it.method),
            .edits = lowerEdits(it.edits),
            .timeout_ms = lowerTimeout(it.timeout_ms),
        } },
        .invoke => |it| .{ .invoke = .{
            .function = .of(it.function),
            .edits = lowerEdits(it.edits),
            .timeout_ms = lowerTimeout(it.timeout_ms),
        } },
        .respond => |it| .{ .respond = lowerResponse(it) },
    } };
}

fn lowerTimeout(timeout_ms: ?u32) OptionalNumber {
    return .{ .some = @intFromBool(timeout_ms != null), .value = timeout_ms orelse 0 };
}
