// Who is who in the siege: names, sizes and numbers that its programs share.
import { type Image, makeImage } from '../support/images.ts';

export const MIB = 1024 * 1024;
export const CREDENTIAL = { username: 'octocat', token: 'ghp_siege0123456789' };
export const HONEST_CLIENTS = 8;
export const IMAGES_EACH = 12;
/** So small that honest pulls evict each other, and that the huge layer has to pass through. */
export const CACHE_BYTES = 96 * MIB;

/** The repositories of those who are up to no good, or out of luck. */
export const VICTIM = {
  /** Its blob host refuses it. */
  forbidden: 'forbidden/app',
  /** Answers nothing but 500. */
  broken: 'broken/app',
  /** Needs 12 s for its headers. */
  slow: 'slow/app',
  /** Its blob host sends 20 KB/s. */
  crawling: 'crawling/app',
  /** Lists 6 MB of tags. */
  tags: 'tags/app',
  huge: 'huge/app',
  hugeBytes: 200 * MIB,
};

export const pulledName = (client: number) => `honest-${client}/pulled`;
export const pushedName = (client: number) => `honest-${client}/pushed`;

export function honestImage(client: number, n: number, seed = 'pulled'): Image {
  return makeImage({ layers: [20_000, 300_000, 2 * MIB], seed: `${seed} ${client} ${n}` });
}
