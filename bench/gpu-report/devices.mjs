// @ts-check
// Published rates of the GPUs that the report looks at. Nothing here was measured.
//
// Tensor rate: dense bf16 products with fp32 sums. Lanes: results per clock and multiprocessor, of the CUDA C++
// Programming Guide's table "Throughput of Native Arithmetic Instructions". Clocks are the boost clocks that the tensor
// rates are given for.

/**
 * @typedef {object} Device
 * @property {string} id
 * @property {string} name
 * @property {RegExp} pattern of the driver's name for it
 * @property {'8.0' | '8.9' | '9.0'} capability
 * @property {number} multiprocessors
 * @property {number} clock Hz
 * @property {number} tensor floating-point operations a second
 * @property {number} memory bytes a second
 * @property {number | null} l2BytesPerClock null where NVIDIA publishes none
 * @property {{ fp32: number, fp64: number, integer: number, special: number, shuffle: number }} lanes
 * @property {string} source
 */

const lanes = {
  '8.0': { fp32: 64, fp64: 32, integer: 64, special: 16, shuffle: 32 },
  8.9: { fp32: 128, fp64: 2, integer: 64, special: 16, shuffle: 32 },
  '9.0': { fp32: 128, fp64: 64, integer: 64, special: 16, shuffle: 32 },
};

const a100 = {
  capability: /** @type {const} */ ('8.0'),
  multiprocessors: 108,
  clock: 1.41e9,
  tensor: 312e12,
  l2BytesPerClock: 5120,
  lanes: lanes['8.0'],
};

const h100 = {
  capability: /** @type {const} */ ('9.0'),
  multiprocessors: 132,
  clock: 1.83e9,
  tensor: 989.4e12,
  l2BytesPerClock: null,
  lanes: lanes['9.0'],
};

/** The device that the limits on utilization (limits.mjs) are about comes first. @type {Device[]} */
export const devices = [
  {
    id: 'a100-40',
    name: 'A100 40 GB',
    pattern: /A100.*40GB/,
    ...a100,
    memory: 1555e9,
    source: 'NVIDIA A100 Tensor Core GPU Architecture (2020), tables 1, 4 and 5, and "A100 L2 cache"',
  },
  {
    id: 'a100-80',
    name: 'A100 80 GB',
    pattern: /A100.*80GB/,
    ...a100,
    memory: 2039e9,
    source: 'NVIDIA A100 80GB datasheet (SXM), the rest as the 40 GB model',
  },
  {
    id: 'h100',
    name: 'H100 SXM',
    pattern: /H100 80GB HBM3|H100.*SXM/,
    ...h100,
    memory: 3350e9,
    source: 'NVIDIA H100 Tensor Core GPU Architecture (2022) and datasheet; the tensor rate is that of wgmma',
  },
  {
    id: 'h200',
    name: 'H200',
    pattern: /\bH200$/, // not GH200, and not the slower H200 NVL
    ...h100,
    memory: 4800e9,
    source: 'NVIDIA H200 datasheet (SXM), the rest as the H100',
  },
  {
    id: 'rtx4090',
    name: 'RTX 4090',
    pattern: /RTX 4090(?! (Laptop|D))/,
    capability: '8.9',
    multiprocessors: 128,
    clock: 2.52e9,
    tensor: 165.2e12,
    memory: 1008e9,
    l2BytesPerClock: null,
    lanes: lanes['8.9'],
    source: 'NVIDIA Ada GPU Architecture (2022), appendix A',
  },
];
