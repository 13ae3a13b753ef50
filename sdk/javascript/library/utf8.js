// UTF-8 (RFC 3629), which QuickJS has no TextEncoder and TextDecoder for. What is malformed becomes U+FFFD.

export const encode = (text) => {
  const octets = new Uint8Array(3 * text.length); // two units of a pair make four octets
  let size = 0;
  for (const character of text) {
    let code = character.codePointAt(0);
    if (code < 0x80) {
      octets[size++] = code;
      continue;
    }
    if (code >= 0xd800 && code <= 0xdfff) code = REPLACEMENT;
    const further = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
    octets[size++] = FIRST[further] | (code >> (6 * further));
    for (let left = further - 1; left >= 0; left--) octets[size++] = 0x80 | ((code >> (6 * left)) & 0x3f);
  }
  return octets.slice(0, size);
};

export const decode = (octets) => {
  let text = "";
  let codes = [];
  for (let place = 0; place < octets.length; ) {
    const first = octets[place++];
    const further = first < 0x80 ? 0 : first >= 0xc2 && first < 0xe0 ? 1 : first < 0xf0 ? 2 : 3;
    if (further === 0 || first < 0xc2 || first > 0xf4) {
      codes.push(further === 0 ? first : REPLACEMENT);
    } else {
      let code = first & (0x3f >> further);
      let left = further;
      while (left > 0 && (octets[place] & 0xc0) === 0x80) {
        code = (code << 6) | (octets[place++] & 0x3f);
        left--;
      }
      const whole = left === 0 && code >= LEAST[further] && code <= 0x10ffff && (code < 0xd800 || code > 0xdfff);
      codes.push(whole ? code : REPLACEMENT);
    }
    if (codes.length === AT_ONCE) {
      text += String.fromCodePoint(...codes);
      codes = [];
    }
  }
  return text + String.fromCodePoint(...codes);
};

const REPLACEMENT = 0xfffd;
/** The bits of a first octet, and the least code, by how many octets follow. */
const FIRST = [0, 0xc0, 0xe0, 0xf0];
const LEAST = [0, 0x80, 0x800, 0x10000];
/** Arguments of one call: the engine has a bound. */
const AT_ONCE = 4096;
