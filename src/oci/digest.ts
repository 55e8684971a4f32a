// Digests: the identity of all content. A Digest only ever comes from parseDigest or from a hash computed here, so
// any value of the type is well formed and safe in file names and URLs.
import { createHash, type Hash } from 'node:crypto';

/** `<algorithm>:<lower-case hex>`, of a registered algorithm (OCI image spec, descriptor.md#digests). */
export type Digest = string & { readonly __digest: unique symbol };
export type Algorithm = 'sha256' | 'sha512';

const HEX_LENGTH: Record<Algorithm, number> = { sha256: 64, sha512: 128 };

export const ALGORITHMS = Object.keys(HEX_LENGTH) as readonly Algorithm[];

/** Parses a digest; undefined when it is malformed or its algorithm is not registered. */
export function parseDigest(text: string): Digest | undefined {
  const algorithm = text.slice(0, 6) as Algorithm;
  const length = HEX_LENGTH[algorithm];
  if (length === undefined || text.length !== 7 + length || text[6] !== ':') return undefined;
  for (let i = 7; i < text.length; i++) {
    const c = text.charCodeAt(i);
    if (!((c >= 0x30 && c <= 0x39) || (c >= 0x61 && c <= 0x66))) return undefined;
  }
  return text as Digest;
}

export function algorithmOf(digest: Digest): Algorithm {
  return digest.slice(0, 6) as Algorithm;
}

export function hexOf(digest: Digest): string {
  return digest.slice(7);
}

/** The digest of a whole buffer. */
export function digestOf(bytes: Uint8Array, algorithm: Algorithm = 'sha256'): Digest {
  return new DigestHasher(algorithm).update(bytes).digest();
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
