import { openSync, readSync, writeSync } from 'node:fs';

/**
 * For a program that runs under shim.cc: gives `arm(n)`, after which the n-th call fails [0: none] and which gives the calls
 * since the last time.
 */
export function armFor(controlFile, mode, errno) {
  const control = openSync(controlFile, 'r+');
  return (n) => {
    const numbers = new BigInt64Array(4);
    readSync(control, numbers, 0, 32, 0);
    const calls = Number(numbers[3]);
    writeSync(control, new BigInt64Array([BigInt(n), BigInt(mode), BigInt(errno), 0n]), 0, 32, 0);
    return calls;
  };
}
