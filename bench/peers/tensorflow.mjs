// @ts-check
// GPT-2 in TensorFlow.js with its WebAssembly backend, as a contender of `npm run bench`: the requests of
// bench/peers/gpt2.py but for "generate", in fp32 alone. KOTODAMA_BENCH_TFJS names the folder that has
// node_modules/@tensorflow/tfjs and tfjs-backend-wasm (written for 4.22.0).
//
// The same model, loss, clipping and AdamW, each written in the way that was fastest of those tried:
// - In Node this backend runs on one thread, whatever is asked for: it turns its threads off there.
// - Its product of two plain matrices is XNNPACK's; that of transposed ones, and of several at once, is a plain loop. So
//   matrices are transposed first, and attention multiplies head by head.
// - It cannot scatter sums, which the gradient of a gather needs: embeddings are products with one-hot rows.
// - Its Adam has no weight decay: matrices are shrunk before it, which is what AdamW does.
// - Gradients of LayerNorm are written out, and GELU's tanh is a sigmoid.
// Its losses on the bench's batch are those of kotodama, step by step, but for the weights drawn at random.

import { createRequire } from 'node:module';
import { resolve } from 'node:path';
import { serve } from '../suite/serve.mjs';

const installed = createRequire(resolve(process.env.KOTODAMA_BENCH_TFJS ?? '.', 'package.json'));
const tf = installed('@tensorflow/tfjs');
installed('@tensorflow/tfjs-backend-wasm');

/** @typedef {any} Tensor */

/** The sum over the rows of a matrix: much faster as a product, since a sum over the first axis is one of a transpose. */
const sumOfRows = (/** @type {Tensor} */ x) => tf.matMul(tf.ones([1, x.shape[0]]), x).reshape([x.shape[1]]);

/** x weight + bias, of matrices. */
const product = tf.customGrad(
  (/** @type {Tensor} */ x, /** @type {Tensor} */ weight, /** @type {Tensor} */ bias, /** @type {any} */ save) => {
    save([x, weight]);
    return {
      value: tf.matMul(x, weight).add(bias),
      gradFunc: (/** @type {Tensor} */ dy, /** @type {Tensor[]} */ [input, factor]) => [
        tf.matMul(dy, tf.transpose(factor)),
        tf.matMul(tf.transpose(input), dy),
        sumOfRows(dy),
      ],
    };
  },
);

/** The matrices of a (N, M, K). `unstack` copies the whole for each of them. @param {Tensor} x */
function matrices(x) {
  const [count, rows, columns] = x.shape;
  const values = x.dataSync();
  const at = (/** @type {number} */ i) => values.subarray(i * rows * columns, (i + 1) * rows * columns);
  return Array.from({ length: count }, (_, i) => tf.tensor2d(at(i), [rows, columns]));
}

/** Products of the matrices of a (N, M, K) and b (N, K, P). @param {Tensor} a @param {Tensor} b */
function oneByOne(a, b) {
  const others = matrices(b);
  return tf.stack(matrices(a).map((x, i) => tf.matMul(x, others[i])));
}
const turned = (/** @type {Tensor} */ x) => tf.transpose(x, [0, 2, 1]);
const products = tf.customGrad((/** @type {Tensor} */ a, /** @type {Tensor} */ b, /** @type {any} */ save) => {
  save([a, b]);
  return {
    value: oneByOne(a, b),
    gradFunc: (/** @type {Tensor} */ dy, /** @type {Tensor[]} */ [x, y]) => [
      oneByOne(dy, turned(y)),
      oneByOne(turned(x), dy),
    ],
  };
});

/** The tanh approximation, by 1 + tanh(u) = 2 sigmoid(2u): sigmoid is XNNPACK's. @param {Tensor} x */
function gelu(x) {
  const inner = x.add(x.square().mul(x).mul(0.044715));
  return x.mul(inner.mul(2 * Math.sqrt(2 / Math.PI)).sigmoid());
}

/** Of the rows of a matrix; the gradient is that of Ba et al. 2016, "Layer Normalization". */
const layerNorm = tf.customGrad(
  (/** @type {Tensor} */ x, /** @type {Tensor} */ weight, /** @type {Tensor} */ bias, /** @type {any} */ save) => {
    const centered = x.sub(x.mean(1, true));
    const inverse = centered.square().mean(1, true).add(1e-5).rsqrt();
    const normal = centered.mul(inverse);
    save([normal, inverse, weight]);
    return {
      value: normal.mul(weight).add(bias),
      gradFunc: (/** @type {Tensor} */ dy, /** @type {Tensor[]} */ [xhat, scale, factor]) => {
        const inner = dy.mul(factor);
        const dx = inner.sub(inner.mean(1, true)).sub(xhat.mul(inner.mul(xhat).mean(1, true)));
        return [dx.mul(scale), sumOfRows(dy.mul(xhat)), sumOfRows(dy)];
      },
    };
  },
);

class GPT2 {
  /** @param {{ vocabSize: number, nLayer: number, nHead: number, nEmbd: number, nPositions: number }} shape */
  constructor({ vocabSize, nLayer, nHead, nEmbd, nPositions }) {
    this.nHead = nHead;
    let seed = 0;
    /** @param {number[]} size */
    const normal = (size, deviation = 0.02) => tf.variable(tf.randomNormal(size, 0, deviation, 'float32', ++seed));
    const matrix = (/** @type {number} */ from, /** @type {number} */ to, deviation = 0.02) => ({
      weight: normal([from, to], deviation),
      bias: tf.variable(tf.zeros([to])),
    });
    const norm = () => ({ weight: tf.variable(tf.ones([nEmbd])), bias: tf.variable(tf.zeros([nEmbd])) });
    const residual = 0.02 / Math.sqrt(2 * nLayer);
    this.wte = normal([vocabSize, nEmbd]);
    this.wpe = normal([nPositions, nEmbd]);
    this.layers = Array.from({ length: nLayer }, () => ({
      ln1: norm(),
      attention: matrix(nEmbd, 3 * nEmbd),
      attentionOut: matrix(nEmbd, nEmbd, residual),
      ln2: norm(),
      mlp: matrix(nEmbd, 4 * nEmbd),
      mlpOut: matrix(4 * nEmbd, nEmbd, residual),
    }));
    this.lnF = norm();
  }

  /**
   * The mean loss. Activations are (B T, C), rows by block and position.
   *
   * @param {Tensor} inputs one-hot, (B T, V) @param {Tensor} labels one-hot, (B T, V)
   * @param {Tensor} mask (T, T), with -infinity where a position may not look @param {number} batch
   */
  loss(inputs, labels, mask, batch) {
    const block = mask.shape[0];
    const positions = tf.tile(tf.slice(this.wpe, 0, block), [batch, 1]);
    let x = product(inputs, this.wte, tf.zeros([this.wte.shape[1]])).add(positions);
    for (const layer of this.layers) {
      x = x.add(linear(this.attention(linear(norm(x, layer.ln1), layer.attention), mask, batch), layer.attentionOut));
      x = x.add(linear(gelu(linear(norm(x, layer.ln2), layer.mlp)), layer.mlpOut));
    }
    const logits = product(norm(x, this.lnF), tf.transpose(this.wte), tf.zeros([this.wte.shape[0]]));
    return tf.losses.softmaxCrossEntropy(labels, logits);
  }

  /** @param {Tensor} qkv (B T, 3C) @param {Tensor} mask @param {number} batch */
  attention(qkv, mask, batch) {
    const block = mask.shape[0];
    const width = qkv.shape[1] / 3;
    const [q, k, v] = tf.split(qkv, 3, 1).map((/** @type {Tensor} */ part) =>
      part
        .reshape([batch, block, this.nHead, width / this.nHead])
        .transpose([0, 2, 1, 3])
        .reshape([batch * this.nHead, block, width / this.nHead]),
    );
    const scores = products(q, turned(k)).mul(1 / Math.sqrt(width / this.nHead));
    return products(tf.softmax(scores.add(mask)), v)
      .reshape([batch, this.nHead, block, width / this.nHead])
      .transpose([0, 2, 1, 3])
      .reshape([batch * block, width]);
  }
}

/** @typedef {{ weight: Tensor, bias: Tensor }} Pair */
const norm = (/** @type {Tensor} */ x, /** @type {Pair} */ of) => layerNorm(x, of.weight, of.bias);
const linear = (/** @type {Tensor} */ x, /** @type {Pair} */ of) => product(x, of.weight, of.bias);

await tf.setBackend('wasm');
await serve({
  describe: async () => ({ tensorflow: tf.version.tfjs, backend: tf.getBackend(), node: process.version }),

  /** @param {any} request */
  async train({ model: shape, batch, block, precision }) {
    if (precision !== 'fp32') throw new Error(`expected precision fp32, found ${precision}`);
    const model = new GPT2(shape);
    const learningRate = 1e-4;
    const optimizer = tf.train.adam(learningRate, 0.9, 0.95, 1e-8);
    const at = (/** @type {number} */ i) => (i * 7919) % shape.vocabSize;
    const oneHot = (/** @type {number} */ first) =>
      tf.tidy(() => {
        const ids = Int32Array.from({ length: batch * block }, (_, i) => at(first + i));
        return tf.oneHot(tf.tensor1d(ids, 'int32'), shape.vocabSize).toFloat();
      });
    const inputs = oneHot(0);
    const labels = oneHot(1);
    const mask = tf.tensor2d(
      Array.from({ length: block }, (_, t) =>
        Array.from({ length: block }, (_, of) => (of > t ? Number.NEGATIVE_INFINITY : 0)),
      ),
    );
    return () =>
      tf.tidy(() => {
        const { value, grads } = tf.variableGrads(() => model.loss(inputs, labels, mask, batch));
        const squares = Object.values(grads).map((gradient) => gradient.square().sum());
        const scale = tf.minimum(tf.scalar(1).div(tf.addN(squares).sqrt().add(1e-6)), 1);
        /** @type {Record<string, Tensor>} */
        const clipped = {};
        for (const [name, gradient] of Object.entries(grads)) clipped[name] = gradient.mul(scale);
        for (const variable of Object.values(tf.engine().registeredVariables)) {
          if (variable.trainable && variable.rank === 2) variable.assign(variable.mul(1 - learningRate * 0.1));
        }
        optimizer.applyGradients(clipped);
        return value.dataSync()[0];
      });
  },
});
