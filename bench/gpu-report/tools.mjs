// @ts-check
// The CUDA toolkit's programs that look at kernels: the assembler and, where it is at hand, the disassembler.

import { existsSync, mkdtempSync, realpathSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { run } from '../cuda/build.mjs';
import { machineLoop, parseSass } from './machine-code.mjs';
import { parsePtxas } from './ptxas.mjs';

/**
 * A program of the toolkit: beside nvcc, on the PATH or in the usual folder.
 *
 * @param {string} name
 * @param {string} nvcc
 */
function find(name, nvcc) {
  const folders = [dirname(realpathSync(nvcc)), ...(process.env.PATH ?? '').split(delimiter), '/usr/local/cuda/bin'];
  return folders.map((folder) => join(folder, name)).find((path) => existsSync(path));
}

/**
 * Assembles the kernels for each architecture: what ptxas says of each and, with cuobjdump (KOTODAMA_CUOBJDUMP, or as
 * `find` finds it), their main loops in machine code.
 *
 * @param {string} ptx
 * @param {string} nvcc
 * @param {string[]} architectures
 */
export function assemble(ptx, nvcc, architectures) {
  const ptxas = find('ptxas', nvcc);
  if (ptxas === undefined) throw new Error(`there is no ptxas beside ${nvcc} or on the PATH`);
  const cuobjdump = process.env.KOTODAMA_CUOBJDUMP || find('cuobjdump', nvcc);
  const assembled = new Map();
  const machineLoops = new Map();
  const folder = mkdtempSync(join(tmpdir(), 'kotodama-gpu-report-'));
  try {
    for (const architecture of architectures) {
      const cubin = join(folder, `${architecture}.cubin`);
      const { stdout, stderr } = run(ptxas, [`-arch=${architecture}`, '-v', '-o', cubin, ptx]);
      assembled.set(architecture, parsePtxas(stdout + stderr));
      if (cuobjdump === undefined) continue;
      const kernels = parseSass(run(cuobjdump, ['-sass', cubin]).stdout);
      machineLoops.set(architecture, new Map([...kernels].map(([name, code]) => [name, machineLoop(code)])));
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
  const version = /release ([\d.]+), V([\d.]+)/.exec(run(ptxas, ['--version']).stdout)?.[2] ?? 'unknown';
  return { assembled, machineLoops, version };
}
