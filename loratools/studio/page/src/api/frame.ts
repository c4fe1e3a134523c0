// A picture on the socket: a 16-byte header, little endian, and the encoded picture (loratools/studio/live/frames.py).

export interface Frame {
  mime: string;
  /** Drawn with few steps; a full one follows when the hand rests. */
  preview: boolean;
  cached: boolean;
  stream: number;
  seq: number;
  width: number;
  height: number;
  picture: Uint8Array<ArrayBuffer>;
}

export const HEADER = 16;
const MIMES: Record<number, string> = { 1: "image/jpeg", 2: "image/png", 3: "image/webp" };

/** Raises a RangeError that names the fault; nothing is guessed from a damaged frame. */
export function parseFrame(message: ArrayBuffer): Frame {
  if (message.byteLength < HEADER) throw new RangeError(`a frame of ${message.byteLength} bytes has no header`);
  const view = new DataView(message);
  const kind = view.getUint8(0);
  const flags = view.getUint8(1);
  const mime = MIMES[kind];
  if (!mime) throw new RangeError(`a frame of the unknown kind ${kind}`);
  const bytes = view.getUint32(12, true);
  if (bytes !== message.byteLength - HEADER) {
    throw new RangeError(`a frame says ${bytes} bytes and brings ${message.byteLength - HEADER}`);
  }
  return {
    mime,
    preview: (flags & 1) !== 0,
    cached: (flags & 2) !== 0,
    stream: view.getUint16(2, true),
    seq: view.getUint32(4, true),
    width: view.getUint16(8, true),
    height: view.getUint16(10, true),
    picture: new Uint8Array(message, HEADER),
  };
}
