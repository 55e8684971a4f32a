// Clients of a benchmark: a pull that reads and discards, in this process or, for load, in one of its own,
// so that the measuring does not slow what is measured.
import http from 'node:http';

export interface PullTimes {
  /** From the request to the first byte of the body, in ms. */
  readonly firstByteMs: number;
  readonly totalMs: number;
  readonly bytes: number;
}

/** Pulls with a keep-alive agent, following redirects, with the token of an anonymous client when asked for one. */
export async function pull(
  agent: http.Agent,
  url: string,
  headers: Record<string, string> = {},
): Promise<PullTimes> {
  const startedMs = performance.now();
  for (let at = url, sent = headers, steps = 0; steps < 5; steps++) {
    const answer = await get(agent, at, sent);
    const { statusCode = 0, headers: got } = answer;
    if (statusCode === 307 && got.location !== undefined) {
      answer.resume();
      at = new URL(got.location, at).href;
      sent = {};
      continue;
    }
    if (statusCode !== 200) throw new Error(`${at} answered ${statusCode}`);
    return discard(answer, startedMs);
  }
  throw new Error(`${url} redirects too often`);
}

/** An anonymous token, as a client of the upstream gets it before its first pull. */
export async function anonymousToken(url: string, name: string): Promise<string> {
  const answer = await fetch(`${url}/token?service=ghcr.io&scope=repository:${name}:pull`);
  return ((await answer.json()) as { token: string }).token;
}

function get(agent: http.Agent, url: string, headers: Record<string, string>): Promise<http.IncomingMessage> {
  return new Promise((resolve, reject) => {
    http.get(url, { agent, headers }, resolve).on('error', reject);
  });
}

function discard(answer: http.IncomingMessage, startedMs: number): Promise<PullTimes> {
  return new Promise((resolve, reject) => {
    let firstByteMs = Number.NaN;
    let bytes = 0;
    answer.on('data', (chunk: Buffer) => {
      if (bytes === 0) firstByteMs = performance.now() - startedMs;
      bytes += chunk.length;
    });
    answer.on('end', () => resolve({ firstByteMs, totalMs: performance.now() - startedMs, bytes }));
    answer.on('error', reject);
  });
}
