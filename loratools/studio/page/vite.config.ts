/// <reference types="vitest/config" />
import { defineConfig } from "vite";

// Every URL is relative, so that the page works behind a proxy at any prefix; names hold a digest of their content and
// nothing of the machine, so that two builds of one lockfile are the same bytes (.ci/run compares them).
export default defineConfig({
  base: "./",
  esbuild: { jsx: "automatic", jsxImportSource: "preact", legalComments: "none" },
  build: {
    outDir: "dist",
    target: "es2022",
    modulePreload: { polyfill: false },
    assetsInlineLimit: 0,
    cssCodeSplit: false,
    sourcemap: false,
    reportCompressedSize: false,
  },
  test: { include: ["test/**/*.test.ts", "test/**/*.test.tsx"], environment: "node" },
});
