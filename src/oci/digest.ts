// Digests: the identity of all content. A Digest only ever comes from parseDigest or from a hash computed here, so
// any value of the type is well formed and safe in file names and URLs.
import { createHash, type Hash, hash } from 'node:crypto';

/** `<algorithm>:<lower-case hex>`, of a registered algorithm (OCI image spec, descriptor.md#digests). */
export type Digest = string & { readonly __digest: unique symbol };
export type Algorithm = 'sha256' | 'sha512';

export const ALGORITHMS: readonly Algorithm[] = ['sha256', 'sha512'];
const DIGEST = /^(?:sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$/;

/** Parses a digest; undefined when it is malformed or its algorithm is not registered. */
export function parseDigest(text: string): Digest | undefined {
  return DIGEST.test(text) ? (text as Digest) : undefined;
}

export function algorithmOf(digest: Digest): Algorithm {
  return digest.slice(0, 6) as Algorithm;
}

export function hexOf(digest: Digest): string {
  return digest.slice(7);
}

/** The digest of a whole buffer. */
export function digestOf(bytes: Uint8Array, algorithm: Algorithm = 'sha256'): Digest {
  return `${algorithm}:${hash(algorithm, bytes)}` as Digest;
}

/** Hashes a stream of bytes. `digest()` ends it and may be called once. */
export class DigestHasher {
  readonly #algorithm: Algorithm;
  readonly #hash: Hash;

  constructor(algorithm: Algorithm) {
    this.#algorithm = algorithm;
    this.#hash = createHash(algorithm);
  }

  update(bytes: Uint8Array): this {
    this.#hash.update(bytes);
    return this;
  }

  digest(): Digest {
    return `${this.#algorithm}:${this.#hash.digest('hex')}` as Digest;
  }
}
