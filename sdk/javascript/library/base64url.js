// Base64url without padding (RFC 4648 section 5, RFC 7515 section 2), which QuickJS has no `atob` for.

/** Its octets; throws where the text is none. */
export const fromBase64url = (text) => {
  const octets = new Uint8Array(Math.floor((text.length * 3) / 4));
  let size = 0;
  let bits = 0;
  let held = 0; // bits that are no whole octet yet
  for (const character of text) {
    const value = ALPHABET.indexOf(character);
    if (value < 0) throw new SyntaxError(`${JSON.stringify(character)} is not of base64url's alphabet`);
    bits = ((bits << 6) | value) & 0xfff;
    held += 6;
    if (held >= 8) {
      held -= 8;
      octets[size++] = bits >> held;
    }
  }
  if (held >= 6) throw new SyntaxError("the last character of base64url is missing");
  return octets.slice(0, size);
};

const ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
