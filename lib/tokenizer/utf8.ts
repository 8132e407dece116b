/** Bytes of a UTF-8 character, by its first one. */
export function characterLength(lead: number): number {
  return lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
}

/** The character at `position` of well-formed UTF-8. */
export function codePointAt(text: Uint8Array, position: number): number {
  const lead = text[position]!;
  if (lead < 0x80) return lead;
  const second = text[position + 1]! & 0x3f;
  if (lead < 0xe0) return ((lead & 0x1f) << 6) | second;
  const third = text[position + 2]! & 0x3f;
  if (lead < 0xf0) return ((lead & 0x0f) << 12) | (second << 6) | third;
  return ((lead & 0x07) << 18) | (second << 12) | (third << 6) | (text[position + 3]! & 0x3f);
}
