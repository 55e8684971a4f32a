// Tags that are written once: nobody moves or deletes them through here, whatever the upstream allows. Where a tag points
// now is asked of the upstream, so that a push by another way counts too.
//
// The tag under which clients keep the referrers of a manifest, where an upstream has no API for them, is a list that
// grows: no rule applies to it.
import type { Digest } from '../oci/digest.ts';
import { RegistryError } from '../oci/errors.ts';
import { imageName, type Reference, type Repository } from '../oci/reference.ts';
import type { TagPattern } from '../pull/tag-rules.ts';
import { isNotFound, type Upstream } from '../upstream/upstream.ts';

export interface WriteOnceDependencies {
  /** The rule that applies to a tag. */
  rule(repository: Repository, tag: string): TagPattern;
  upstream(repository: Repository): Pick<Upstream, 'getManifest' | 'getIfChanged' | 'listTags'>;
  /** Whether there is any such rule: if not, nothing is asked. */
  readonly isUsed: boolean;
}

const REFERRERS_TAG = /^sha(?:256|512)-[0-9a-f]{32,64}(?:\.\w+)?$/;

export class WriteOnce {
  readonly #dependencies: WriteOnceDependencies;

  constructor(dependencies: WriteOnceDependencies) {
    this.#dependencies = dependencies;
  }

  /** To be called under the tag's mutex. Throws DENIED when the tag points to other bytes, and as the upstream does. */
  async assertMayPut(repository: Repository, tag: string, bytes: Buffer): Promise<void> {
    const rule = this.#ruleFor(repository, tag);
    if (rule === undefined) return;
    const known = await orNone(this.#dependencies.upstream(repository).getManifest(repository, { tag }));
    if (known !== undefined && !bytes.equals(known.bytes)) throw denied(repository, tag, rule, 'move');
  }

  /** Throws DENIED when the tag exists, or any tag points to the digest, and as the upstream does. */
  async assertMayDelete(repository: Repository, { tag, digest }: Reference): Promise<void> {
    const { isUsed, upstream } = this.#dependencies;
    if (tag !== undefined) {
      const rule = this.#ruleFor(repository, tag);
      if (rule === undefined) return;
      const known = await orNone(upstream(repository).getManifest(repository, { tag }));
      if (known !== undefined) throw denied(repository, tag, rule, 'delete');
    } else if (isUsed) await this.#assertUntagged(repository, digest);
  }

  async #assertUntagged(repository: Repository, digest: Digest): Promise<void> {
    const upstream = this.#dependencies.upstream(repository);
    for (const tag of (await orNone(upstream.listTags(repository))) ?? []) {
      const rule = this.#ruleFor(repository, tag);
      if (rule === undefined) continue;
      const changed = await orNone(upstream.getIfChanged(repository, tag, digest).then(other => other ?? SAME));
      if (changed === SAME) throw denied(repository, tag, rule, 'delete');
    }
  }

  #ruleFor(repository: Repository, tag: string): TagPattern | undefined {
    const { isUsed, rule } = this.#dependencies;
    if (!isUsed || REFERRERS_TAG.test(tag)) return undefined;
    const found = rule(repository, tag);
    return found.writeOnce ? found : undefined;
  }
}

const SAME = Symbol('same');

function denied(repository: Repository, tag: string, { match }: TagPattern, verb: 'move' | 'delete'): RegistryError {
  const what = imageName(repository, { tag });
  const message = `${what} exists, and the rule of tags for "${match}" lets nobody ${verb} it (writeOnce)${verb === 'move' ? '; use another tag' : ''}`;
  return new RegistryError('DENIED', message, { detail: { tag, rule: match } });
}

async function orNone<T>(asking: Promise<T>): Promise<T | undefined> {
  try {
    return await asking;
  } catch (error) {
    if (!isNotFound(error)) throw error;
    return undefined;
  }
}
