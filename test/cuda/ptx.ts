/** A module's PTX, taken apart. */
export interface Ptx {
  /** What stands before the kernels: version, target, declarations. */
  prologue: string;
  /** The text of each kernel, by its name. */
  kernels: Map<string, string>;
  /** The names of source files, which `.loc` lines inside the kernels refer to. */
  files: string;
}

export function parsePtx(text: string): Ptx {
  const kernels = new Map<string, string>();
  for (const match of text.matchAll(/^\.visible \.entry (\w+)\([\s\S]*?^\}\n/gm)) {
    kernels.set(match[1] as string, match[0]);
  }
  const files = [...text.matchAll(/^\s*\.file\s.*\n/gm)].map(([line]) => line).join('');
  return { prologue: text.slice(0, text.search(/^\.visible \.entry /m)), kernels, files };
}

/** A module of some of the kernels, by their names or by new text for them. */
export function joinPtx({ prologue, files }: Ptx, kernels: readonly string[]): string {
  return prologue + kernels.join('\n') + files;
}

/** The source line that a place in a kernel's text came from, e.g. `gemm_bf16.cu:70`. */
export function sourceOf(ptx: Ptx, kernel: string, offset: number): string {
  const [, file, line] = [...kernel.slice(0, offset).matchAll(/^\s*\.loc\s+(\d+)\s+(\d+)/gm)].at(-1) ?? [];
  if (file === undefined) return 'an unknown line';
  const path = new RegExp(`^\\s*\\.file\\s+${file}\\s+"([^"]*)"`, 'm').exec(ptx.files)?.[1] ?? `file ${file}`;
  return `${path.split('/').at(-1)}:${line}`;
}
