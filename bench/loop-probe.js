// Loaded into a server by `node --import`: measures the delay of its event loop. SIGUSR2 prints the delays since the
// last time, in ms, as a line of JSON.
import { monitorEventLoopDelay } from 'node:perf_hooks';

const RESOLUTION_MS = 1;
const delays = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
delays.enable();
process.on('SIGUSR2', () => {
  // The histogram counts from one timer to the next, which is the resolution when nothing is late.
  const ms = percentile => Math.max(0, delays.percentile(percentile) / 1e6 - RESOLUTION_MS);
  process.stdout.write(`${JSON.stringify({ p50: ms(50), p99: ms(99), max: ms(100) })}\n`);
  delays.reset();
});
