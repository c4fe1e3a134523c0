// Texts that stand out from their background by less than WCAG AA asks: [text, ratio, colours].
(() => {
  const paint = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const channels = css => {
    paint.clearRect(0, 0, 1, 1);
    paint.fillStyle = css;
    paint.fillRect(0, 0, 1, 1);
    return [...paint.getImageData(0, 0, 1, 1).data];
  };
  const over = (top, below) => top.slice(0, 3).map((value, n) => value * top[3] / 255 + below[n] * (1 - top[3] / 255));
  const behind = element => {
    const layers = [];
    for (let at = element; at; at = at.parentElement) {
      const color = channels(getComputedStyle(at).backgroundColor);
      if (color[3] > 0) layers.push(color);
      if (color[3] === 255) break;
    }
    return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255]);
  };
  const light = rgb => rgb.map(value => value / 255).map(v => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, n) => sum + v * [0.2126, 0.7152, 0.0722][n], 0);
  const found = [];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim());
    if (!own || !element.checkVisibility() || element.closest(":disabled, .unseen, .skip, canvas, .grid-cell, option")) continue;
    const style = getComputedStyle(element);
    if (style.fontSize === "0px") continue;
    const back = behind(element);
    const [one, other] = [light(over(channels(style.color), back)), light(back)];
    const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && style.fontWeight >= 700);
    if (ratio < (large ? 3 : 4.5)) found.push([element.textContent.trim().slice(0, 40), Number(ratio.toFixed(2)), style.color, back.map(Math.round).join()]);
  }
  return found;
})()
