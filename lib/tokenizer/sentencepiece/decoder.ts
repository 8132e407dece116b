import { KotodamaError } from '../../errors.js';
import { byteOfPiece, type ModelProto, PieceType } from './model-proto.js';
import { Normalizer } from './normalizer.js';

const UTF8 = new TextDecoder('utf-8', { ignoreBOM: true });

/** Turns ids back into text as `SentencePieceProcessor::Decode` does. */
export class Decoder {
  private readonly model: ModelProto;
  /** Text of every piece with U+2581 turned into spaces, by id. */
  private readonly surfaces: string[];
  /** Byte of byte pieces, by id; -1 for all others. */
  private readonly bytes: Int16Array;
  private readonly stripsSpace: boolean;
  private readonly denormalizer: Normalizer | undefined;

  constructor(model: ModelProto) {
    this.model = model;
    this.surfaces = model.pieces.map((piece, id) => this.surfaceOf(piece, model.types[id]!));
    this.bytes = Int16Array.from(model.pieces, (piece, id) =>
      model.types[id] === PieceType.byte ? byteOfPiece(piece) : -1,
    );
    this.stripsSpace = model.normalizer.addDummyPrefix || model.normalizer.removeExtraWhitespaces;
    if (model.denormalizer !== undefined && model.denormalizer.charsmap.length > 0) {
      this.denormalizer = new Normalizer(model.denormalizer, undefined, false);
    }
  }

  /** @param showControl whether control pieces appear as their text; SentencePiece leaves them out */
  decode(ids: ArrayLike<number>, showControl: boolean): string {
    const { surfaces, bytes } = this;
    const run: number[] = [];
    let text = '';
    let atStart = true;
    let removedSpace = false;
    for (let i = 0; i < ids.length; i++) {
      const id = ids[i]!;
      const surface = surfaces[id];
      if (surface === undefined) throw unknownId(id, surfaces.length);
      if (bytes[id]! >= 0) {
        run.push(bytes[id]!);
        continue;
      }
      text += decodeBytes(run);
      run.length = 0;
      if (removedSpace || text !== '') atStart = false;
      const type = this.model.types[id];
      removedSpace = false;
      if (type === PieceType.control) {
        if (showControl) text += surface;
      } else if (
        atStart &&
        this.stripsSpace &&
        type !== PieceType.unknown &&
        this.model.pieces[id]!.startsWith('\u2581')
      ) {
        // With extra spaces removed every leading space goes, otherwise only the dummy one.
        removedSpace = !this.model.normalizer.removeExtraWhitespaces;
        text += surface.slice(1);
      } else {
        text += surface;
      }
    }
    text += decodeBytes(run);
    return this.denormalizer === undefined ? text : this.denormalizer.normalizeToString(text);
  }

  private surfaceOf(piece: string, type: number): string {
    if (type === PieceType.unknown) return this.model.unkSurface;
    return type === PieceType.control ? piece : piece.replaceAll('\u2581', ' ');
  }
}

function unknownId(id: number, size: number): KotodamaError {
  return new KotodamaError('ERR_TOKENIZER', 'an id is not in the vocabulary of this tokenizer', {
    expected: `an integer from 0 to ${size - 1}`,
    received: `${id}`,
  });
}

/** Text of UTF-8 bytes. Each byte that belongs to no character becomes one U+FFFD, unlike in TextDecoder. */
function decodeBytes(bytes: readonly number[]): string {
  let text = '';
  for (let i = 0; i < bytes.length; ) {
    const length = characterLength(bytes, i);
    text += length === 0 ? '\ufffd' : UTF8.decode(Uint8Array.from(bytes.slice(i, i + length)));
    i += Math.max(1, length);
  }
  return text;
}

/** Length of the UTF-8 character at `start`; 0 if the bytes there are not one (RFC 3629, section 4). */
function characterLength(bytes: readonly number[], start: number): number {
  const lead = bytes[start]!;
  if (lead < 0x80) return 1;
  const length = lead >= 0xc2 && lead < 0xe0 ? 2 : (lead & 0xf0) === 0xe0 ? 3 : lead >= 0xf0 && lead < 0xf5 ? 4 : 0;
  for (let i = 1; i < length; i++) {
    if (((bytes[start + i] ?? 0) & 0xc0) !== 0x80) return 0;
  }
  const second = bytes[start + 1] ?? 0;
  const isOutside =
    (lead === 0xe0 && second < 0xa0) || // overlong
    (lead === 0xed && second > 0x9f) || // surrogates
    (lead === 0xf0 && second < 0x90) || // overlong
    (lead === 0xf4 && second > 0x8f); // above U+10FFFF
  return isOutside ? 0 : length;
}
