// Where two pictures differ: the largest difference of a pixel's channels, dark where there is none.

/** A colour from black over red and yellow to white, for 0 to 1: lightness alone tells the amount. */
export function heatColor(part: number): [number, number, number] {
  const at = Math.min(1, Math.max(0, part)) * 3;
  return [Math.min(1, at), Math.min(1, Math.max(0, at - 1)), Math.min(1, Math.max(0, at - 2))].map(value =>
    Math.round(255 * value)) as [number, number, number];
}

/** In place: data becomes the heat of its difference from other; a difference of 0.4 of the range is white. */
export function differ(data: Uint8ClampedArray, other: Uint8ClampedArray): void {
  for (let at = 0; at < data.length; at += 4) {
    const most = Math.max(
      Math.abs(data[at]! - other[at]!), Math.abs(data[at + 1]! - other[at + 1]!), Math.abs(data[at + 2]! - other[at + 2]!),
    );
    const [red, green, blue] = heatColor(most / 102);
    data[at] = red;
    data[at + 1] = green;
    data[at + 2] = blue;
    data[at + 3] = 255;
  }
}

export function heat(canvas: HTMLCanvasElement, from: ImageBitmap, to: ImageBitmap): void {
  const { width, height } = to;
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  if (!context) return;
  context.drawImage(from, 0, 0, width, height);
  const other = context.getImageData(0, 0, width, height);
  context.drawImage(to, 0, 0);
  const shown = context.getImageData(0, 0, width, height);
  differ(shown.data, other.data);
  context.putImageData(shown, 0, 0);
}
