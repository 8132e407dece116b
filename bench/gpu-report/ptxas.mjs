// @ts-check
// What the assembler says of each kernel: registers, spills, stack.

/**
 * @typedef {object} Assembled
 * @property {number} registers per thread
 * @property {number} stack bytes of local memory per thread
 * @property {number} spillStores
 * @property {number} spillLoads
 * @property {number} shared static bytes
 */

/**
 * Reads the output of `ptxas -v`: entry functions alone.
 *
 * @param {string} text
 * @returns {Map<string, Assembled>}
 */
export function parsePtxas(text) {
  const kernels = new Map();
  for (const part of text.split(/Compiling entry function '/).slice(1)) {
    const name = part.slice(0, part.indexOf("'"));
    const frame = /(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads/.exec(part);
    const registers = /Used (\d+) registers/.exec(part);
    if (frame === null || registers === null) throw new Error(`ptxas -v says nothing of ${name}:\n${part}`);
    kernels.set(name, {
      registers: Number(registers[1]),
      stack: Number(frame[1]),
      spillStores: Number(frame[2]),
      spillLoads: Number(frame[3]),
      shared: Number(/(\d+) bytes smem/.exec(part)?.[1] ?? 0),
    });
  }
  return kernels;
}
