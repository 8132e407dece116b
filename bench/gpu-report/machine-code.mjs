// @ts-check
// The main loop in machine code, as `cuobjdump -sass` prints it.
//
// An iteration takes one of several paths: last tiles are masked, maxima grow, copies end. The steady one is the path
// from the loop's head to its back edge with the most tensor-core, ldmatrix and copy instructions, and the fewest others
// among those. Blocks that the assembler moved behind the loop belong to it.

/** @typedef {{ address: number, text: string, target: number | null, conditional: boolean, kind: string }} Instruction */

const HEAVY = new Set(['HMMA', 'LDSM', 'LDGSTS']);

/** @param {string} line @returns {Instruction | null} */
function parseLine(line) {
  const match = /^\s*\/\*([0-9a-f]{4,})\*\/\s+(.+?)\s*;/.exec(line);
  if (match === null) return null;
  const text = match[2];
  const guard = /^@!?U?P\w+\s+/.exec(text)?.[0] ?? '';
  const rest = text.slice(guard.length);
  const kind = rest.split(/[ .]/)[0];
  // A call under a predicate is a branch that leaves a loop; a plain one returns.
  const jumps = kind === 'BRA' || (kind === 'CALL' && guard !== '');
  const target = jumps ? /0x([0-9a-f]+)/.exec(rest) : null;
  return {
    address: Number.parseInt(match[1], 16),
    text,
    target: target === null ? null : Number.parseInt(target[1], 16),
    // "@P1 BRA 0x10", "BRA P1, 0x10", "BRA.DIV ~URZ, 0x10"
    conditional: guard !== '' || /,/.test(rest),
    kind,
  };
}

/**
 * Instructions by kernel.
 *
 * @param {string} text
 * @returns {Map<string, Instruction[]>}
 */
export function parseSass(text) {
  const kernels = new Map();
  for (const part of text.split(/^\s*Function : /m).slice(1)) {
    const lines = part.split('\n');
    kernels.set(
      lines[0].trim(),
      lines.map(parseLine).filter((instruction) => instruction !== null),
    );
  }
  return kernels;
}

/**
 * Where each instruction may go on, as indices.
 *
 * @param {Instruction[]} instructions
 */
function successors(instructions) {
  const index = new Map(instructions.map((instruction, i) => [instruction.address, i]));
  return instructions.map(({ target, conditional, kind }, i) => {
    const jump = target === null ? undefined : index.get(target);
    const next = jump === undefined ? [] : [jump];
    const ends = target !== null || kind === 'EXIT' || kind === 'RET';
    if ((!ends || conditional) && i + 1 < instructions.length) next.push(i + 1);
    return next;
  });
}

/**
 * The instructions from which `latch` can be reached without passing `head` again, both included.
 *
 * @param {number} head
 * @param {number} latch
 * @param {number[][]} previous
 */
function naturalLoop(head, latch, previous) {
  const body = new Set([head, latch]);
  const todo = [latch];
  for (let i = todo.pop(); i !== undefined; i = todo.pop()) {
    if (i === head) continue;
    for (const before of previous[i]) {
      if (body.has(before)) continue;
      body.add(before);
      todo.push(before);
    }
  }
  return body;
}

/**
 * The steady path through a loop, back edges of loops within it left out.
 *
 * @param {number} head
 * @param {Set<number>} body
 * @param {Instruction[]} instructions
 * @param {number[][]} next
 */
function steadyPath(head, body, instructions, next) {
  /** @type {Map<number, { heavy: number, count: number, next: number } | null>} */
  const best = new Map();
  /** @param {number} i @returns {{ heavy: number, count: number, next: number } | null} */
  const search = (i) => {
    const known = best.get(i);
    if (known !== undefined) return known;
    best.set(i, null); // met again on the way: a loop within
    let found = null;
    for (const n of next[i]) {
      if (n !== head && !body.has(n)) continue;
      const rest = n === head ? { heavy: 0, count: 0 } : search(n);
      if (rest === null) continue;
      const heavy = rest.heavy + (HEAVY.has(instructions[i].kind) ? 1 : 0);
      const count = rest.count + 1;
      if (found === null || heavy > found.heavy || (heavy === found.heavy && count < found.count)) {
        found = { heavy, count, next: n };
      }
    }
    best.set(i, found);
    return found;
  };
  search(head);
  const path = [head];
  for (let i = best.get(head)?.next; i !== undefined && i !== head; i = best.get(i)?.next) path.push(i);
  return path.map((i) => instructions[i]);
}

/**
 * The innermost loop with the most tensor-core instructions: its steady path, and all that lies in it. Null where there
 * is none.
 *
 * @param {Instruction[]} instructions of one kernel
 */
export function machineLoop(instructions) {
  const next = successors(instructions);
  /** @type {number[][]} */
  const previous = instructions.map(() => []);
  for (const [i, list] of next.entries()) for (const n of list) previous[n].push(i);
  const isMma = (/** @type {Instruction} */ { kind }) => kind === 'HMMA';
  let found = null;
  for (const [latch, list] of next.entries()) {
    for (const head of list) {
      if (head > latch) continue;
      const body = naturalLoop(head, latch, previous);
      const mma = [...body].filter((i) => isMma(instructions[i])).length;
      if (mma === 0 || (found !== null && (mma < found.mma || (mma === found.mma && body.size >= found.body.size)))) {
        continue;
      }
      found = { head, body, mma };
    }
  }
  if (found === null) return null;
  const path = steadyPath(found.head, found.body, instructions, next);
  /** @type {Record<string, number>} */
  const kinds = {};
  for (const { kind } of path) kinds[kind] = (kinds[kind] ?? 0) + 1;
  return {
    instructions: path.length,
    mma: path.filter(isMma).length,
    kinds,
    all: found.body.size,
    allMma: found.mma,
  };
}
