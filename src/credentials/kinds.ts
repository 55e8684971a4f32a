// The kinds of tokens that GitHub issues, known by their prefixes, and what GitHub Packages does with each; and what the
// scopes of a token allow here.
// https://docs.github.com/en/authentication/keeping-your-account-and-data-secure/about-authentication-to-github
// https://docs.github.com/en/packages/learn-github-packages/about-permissions-for-github-packages

/** Makes a token with the right to pull and push, and none to repositories, which the page of packages ticks as well. */
export const NEW_TOKEN_URL = 'https://github.com/settings/tokens/new?scopes=write:packages';

export interface TokenKind {
  /** As a person would call it. */
  readonly name: string;
  /** Why GitHub Packages does not take it, in a sentence without its end. */
  readonly unusable?: string;
  /** What else to know of it, in a sentence without its end. */
  readonly caution?: string;
}

const KINDS: readonly (readonly [prefix: string, kind: TokenKind])[] = [
  ['ghp_', { name: 'classic personal access token' }],
  [
    'github_pat_',
    {
      name: 'fine-grained personal access token',
      unusable: `GitHub Packages takes no fine-grained token; make a classic one: ${NEW_TOKEN_URL}`,
    },
  ],
  [
    'gho_',
    { name: 'OAuth token, as of gh', caution: 'it works if it has read:packages (gh auth refresh -s read:packages)' },
  ],
  [
    'ghu_',
    {
      name: 'token of a GitHub App for a user',
      caution: 'packages are often denied to those, though the login succeeds',
    },
  ],
  [
    'ghs_',
    {
      name: 'installation token (GITHUB_TOKEN, or of a GitHub App)',
      caution:
        'a GITHUB_TOKEN works for the packages of its repository, until its job ends; ' +
        'those of other apps are often denied packages, though the login succeeds',
    },
  ],
  [
    'ghr_',
    {
      name: 'refresh token',
      unusable: `it is good for nothing but another token; make a classic one: ${NEW_TOKEN_URL}`,
    },
  ],
];

/** Undefined where its prefix says nothing, as of other registries, or from before 2021. */
export function kindOf(secret: string): TokenKind | undefined {
  return KINDS.find(([prefix]) => secret.startsWith(prefix))?.[1];
}

export interface ScopeAdvice {
  /** What it may do with packages that its user may: `pull and push`; undefined when nothing. */
  readonly may: string | undefined;
  /** Sentences without their ends. */
  readonly cautions: readonly string[];
}

/** `scopes`: as GitHub's API tells those of a classic token. A wider scope includes narrower ones. */
export function adviceOn(scopes: readonly string[]): ScopeAdvice {
  const has = (...names: string[]) => names.some(name => scopes.includes(name));
  const mayPush = has('write:packages');
  const mayPull = mayPush || has('read:packages');
  const may = [mayPull && 'pull', mayPush && 'push', mayPull && has('delete:packages') && 'delete'].filter(Boolean);
  const cautions: string[] = [];
  if (!mayPull) cautions.push(`it has not the scope read:packages; make one that has: ${NEW_TOKEN_URL}`);
  if (mayPull && has('repo')) {
    const only = 'packages need that only where they inherit the visibility of a private repository';
    cautions.push(`its scope repo lets it change code too, and ${only}; a narrower one: ${NEW_TOKEN_URL}`);
  }
  const broad = scopes.filter(scope => /^(?:admin:|delete_repo|workflow|user$)/.test(scope));
  if (broad.length > 0) cautions.push(`it has scopes that are of no use here: ${broad.join(', ')}`);
  return { may: may.length === 0 ? undefined : listed(may as string[]), cautions };
}

function listed(words: readonly string[]): string {
  return words.length < 2 ? words.join('') : `${words.slice(0, -1).join(', ')} and ${words.at(-1)}`;
}
