import { effect, signal } from "@preact/signals";
import { recall, remember } from "./storage";

export type Theme = "system" | "light" | "dark";
export const theme = signal<Theme>("system");
/** The colours that are shown, whoever chose them. */
export const shownTheme = signal<"light" | "dark">("light");
export const narrow = signal(false);

export function followTheme(): void {
  theme.value = recall<Theme>("theme", "system");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const system = signal(dark.matches);
  dark.addEventListener("change", () => (system.value = dark.matches));
  effect(() => {
    const shown = theme.value === "system" ? (system.value ? "dark" : "light") : theme.value;
    document.documentElement.dataset.theme = shownTheme.value = shown;
    remember("theme", theme.value);
  });
  const small = matchMedia("(max-width: 759px)");
  const measure = (): void => void (narrow.value = small.matches);
  measure();
  small.addEventListener("change", measure);
}
