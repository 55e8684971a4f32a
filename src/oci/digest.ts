// Digests: the identity of all content. A Digest can only come from parseDigest or a hash computed here,
// so whatever carries the type is known to be well formed and safe as part of a file name.
import { createHash, type Hash } from 'node:crypto';

/** `<algorithm>:<lower-case hex>`, of a registered algorithm (OCI image spec, descriptor.md#digests). */
export type Digest = string & { readonly __digest: unique symbol };
export type Algorithm = 'sha256' | 'sha512';

const HEX_LENGTH: Record<Algorithm, number> = { sha256: 64, sha512: 128 };

export const ALGORITHMS = Object.keys(HEX_LENGTH) as readonly Algorithm[];

/** The digest that `text` spells, or undefined when it is not one of a registered algorithm. */
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

/** The digest of bytes that are at hand as a whole. */
export function digestOf(bytes: Uint8Array, algorithm: Algorithm = 'sha256'): Digest {
  return new DigestHasher(algorithm).update(bytes).digest();
}

/** Hashes content as it passes; `digest()` ends it and may be called once. */
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
