//! Lets in who has an API key of the node, or a token that the identity provider has signed (RFC 7519, ES256).

const std = @import("std");
const tidegate = @import("tidegate");

const Visitor = struct {
    provider: []const u8,

    pub fn configure(configuration: tidegate.Configuration) !Visitor {
        return configuration.parse(Visitor);
    }

    pub fn reads(_: *const Visitor) []const tidegate.Reading {
        return &.{ .{ .header = "x-api-key" }, .{ .header = "authorization" }, .{ .context = "requestTimeEpoch" } };
    }

    pub fn authorize(self: *const Visitor) !tidegate.Verdict {
        if (tidegate.given(0)) |value| return byKey(value);
        const authorization = tidegate.given(1) orelse return challenge;
        if (!std.mem.startsWith(u8, authorization, "Bearer ")) return challenge;
        const token = Token.parse(authorization["Bearer ".len..]) catch return challenge;
        const key = try self.findKey(token.header.kid) orelse return challenge;
        const signed = tidegate.crypto.verify(.es256, key, token.message, token.signature) catch false; // an unfit key
        const now = try std.fmt.parseInt(u64, tidegate.given(2) orelse "", 10);
        if (!signed or token.claims.exp <= now / 1000) return challenge;
        return .{ .allow = .{ .id = token.claims.sub } };
    }

    /// The provider's key of this id; one that is new may not be in the set that the node keeps.
    fn findKey(self: *const Visitor, id: []const u8) !?[]const u8 {
        const kept = try tidegate.jwks.fetch(self.provider, .no);
        if (try tidegate.jwks.find(kept, id)) |key| return key;
        return tidegate.jwks.find(try tidegate.jwks.fetch(self.provider, .yes), id);
    }
};

const challenge: tidegate.Verdict = .{ .unauthorized = "Bearer" };

fn byKey(value: []const u8) tidegate.Verdict {
    const key = tidegate.api_keys.find(value) orelse return .{ .forbidden = "unknown API key" };
    return .{ .allow = .{ .id = key.name, .usage_identifier_key = key.id } };
}

const Token = struct {
    header: struct { kid: []const u8 = "" },
    claims: struct { sub: []const u8, exp: u64 },
    signature: []const u8,
    /// What the signature is over.
    message: []const u8,

    fn parse(text: []const u8) !Token {
        const first = std.mem.findScalar(u8, text, '.') orelse return error.NoToken;
        const last = std.mem.findScalarLast(u8, text, '.') orelse return error.NoToken;
        if (first == last) return error.NoToken;
        return .{
            .header = try (tidegate.Configuration{ .json = try decode(text[0..first]) }).parse(@FieldType(Token, "header")),
            .claims = try (tidegate.Configuration{ .json = try decode(text[first + 1 .. last]) }).parse(@FieldType(Token, "claims")),
            .signature = try decode(text[last + 1 ..]),
            .message = text[0..last],
        };
    }

    fn decode(text: []const u8) ![]const u8 {
        const decoder = std.base64.url_safe_no_pad.Decoder;
        const octets = try tidegate.allocator.alloc(u8, try decoder.calcSizeForSlice(text));
        try decoder.decode(octets, text);
        return octets;
    }
};

comptime {
    tidegate.exportPlugin(Visitor);
}
