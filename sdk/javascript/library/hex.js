/** Octets as lower case hexadecimal digits. */
export const hex = (value) => Array.from(value, (octet) => octet.toString(16).padStart(2, "0")).join("");
