// SPDX-License-Identifier: MIT
// Worker threads, Buffers and a heap of small objects. Prints digests, the same in every run.
'use strict';
const { Worker, isMainThread, parentPort, workerData } = require('worker_threads');
const { execFileSync } = require('child_process');
const crypto = require('crypto');
const zlib = require('zlib');

function digest(text) {
	return crypto.createHash('sha256').update(text).digest('hex').slice(0, 16);
}

function work(seed, n) {
	const table = new Map();
	let x = seed;
	for (let i = 0; i < n; i++) {
		x = (x * 1103515245 + 12345) % 2147483648;
		table.set(`key ${x}`, { i, text: `value ${i} of ${seed}`, list: [x, i, seed] });
	}
	const buffers = [];
	for (let i = 0; i < n / 500; i++)
		buffers.push(Buffer.alloc(16384, `${seed}:${i};`));
	const packed = zlib.deflateSync(Buffer.concat(buffers));
	const keys = [...table.keys()].sort();
	return digest(keys.join() + JSON.stringify([...table.values()])) + digest(zlib.inflateSync(packed));
}

if (isMainThread) {
	const n = Number(process.argv[2]);
	const results = [];
	let left = 2;
	console.log('main', work(1, n));
	for (let i = 0; i < 2; i++) {
		const worker = new Worker(__filename, { workerData: { seed: i + 2, n: n / 2 } });
		worker.on('message', (m) => { results[i] = m; });
		worker.on('error', (e) => { console.log('error', e); });
		worker.on('exit', (code) => {
			if (--left === 0) {
				console.log('workers', results.join(' '), code);
				console.log('child', execFileSync('sha256sum', [], { input: 'x'.repeat(n) }).toString().trim());
			}
		});
	}
} else {
	parentPort.postMessage(work(workerData.seed, workerData.n));
}
