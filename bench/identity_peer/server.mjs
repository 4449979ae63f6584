// npm `oidc-provider` as a peer: `node server.mjs PORT CERTIFICATE KEY STORE`.
// STORE is `memory` (its own adapter) or the path of a SQLite database, written durably as Stockade's is.
// `/mint/COUNT` gives that many refresh tokens, each of a grant of its own, as if people had signed in.
import { readFileSync } from 'node:fs';
import https from 'node:https';
import { createRequire } from 'node:module';

const require = createRequire(process.env.BENCH_MODULES);
const { Provider } = await import(require.resolve('oidc-provider'));

const [port, certificate, key, store] = process.argv.slice(2);
const issuer = `https://localhost:${port}`;
const AUDIENCE = 'https://localhost:8443';

const resourceServer = { scope: 'orders:read', audience: AUDIENCE, accessTokenTTL: 600, accessTokenFormat: 'opaque' };
const provider = new Provider(issuer, {
  adapter: store === 'memory' ? undefined : await sqliteAdapter(store),
  clients: [
    {
      client_id: 'bench',
      client_secret: 'bench-secret-bench-secret-bench-secret',
      grant_types: ['client_credentials', 'authorization_code', 'refresh_token'],
      redirect_uris: ['https://app.example/callback'],
      response_types: ['code'],
      token_endpoint_auth_method: 'client_secret_basic',
      id_token_signed_response_alg: 'ES256',
      introspection_signed_response_alg: 'ES256',
      scope: 'openid offline_access orders:read',
    },
  ],
  scopes: ['openid', 'offline_access', 'orders:read'],
  findAccount: (_ctx, sub) => ({ accountId: sub, claims: () => ({ sub }) }),
  rotateRefreshToken: true,
  features: {
    clientCredentials: { enabled: true },
    deviceFlow: { enabled: true },
    devInteractions: { enabled: false },
    dPoP: { enabled: true, nonceSecret: Buffer.alloc(32, 1), requireNonce: () => false },
    introspection: { enabled: true },
    jwtIntrospection: { enabled: true },
    mTLS: { enabled: true, certificateBoundAccessTokens: true, getCertificate: () => undefined },
    pushedAuthorizationRequests: { enabled: true },
    registration: { enabled: true, initialAccessToken: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => AUDIENCE,
      useGrantedResource: () => true,
      getResourceServerInfo: () => resourceServer,
    },
    revocation: { enabled: true },
    rpInitiatedLogout: { enabled: true },
  },
  ttl: { AccessToken: 600, ClientCredentials: 600, RefreshToken: 30 * 86400, Grant: 30 * 86400, IdToken: 600 },
  jwks: { keys: [await signingKey()] },
});

const client = await provider.Client.find('bench');

async function mint(count) {
  const made = [];
  for (let number = 0; number < count; number += 1) {
    const grant = new provider.Grant({ accountId: `u_${number}`, clientId: 'bench' });
    grant.addOIDCScope('openid offline_access');
    grant.addResourceScope(AUDIENCE, 'orders:read');
    const token = new provider.RefreshToken({
      client,
      accountId: `u_${number}`,
      grantId: await grant.save(),
      gty: 'authorization_code',
      scope: 'openid offline_access orders:read',
      resource: AUDIENCE,
      rotations: 0,
      authTime: Math.floor(Date.now() / 1000),
      claims: {},
    });
    made.push(await token.save());
  }
  return JSON.stringify(made);
}

const serve = provider.callback();
https
  .createServer({ cert: readFileSync(certificate), key: readFileSync(key) }, async (request, response) => {
    if (request.url.startsWith('/mint/')) {
      response.end(await mint(Number(request.url.slice(6))));
    } else {
      serve(request, response);
    }
  })
  .listen(Number(port), '127.0.0.1', () => console.log('ready'));

async function signingKey() {
  const { subtle } = globalThis.crypto;
  const pair = await subtle.generateKey({ name: 'ECDSA', namedCurve: 'P-256' }, true, ['sign', 'verify']);
  return { ...(await subtle.exportKey('jwk', pair.privateKey)), use: 'sig', alg: 'ES256' };
}

// One table, as the examples that come with oidc-provider have one collection a model. WAL and synchronous=FULL.
async function sqliteAdapter(path) {
  const Database = require('better-sqlite3');
  const database = new Database(path);
  database.pragma('journal_mode = WAL');
  database.pragma('synchronous = FULL');
  database.exec(`CREATE TABLE IF NOT EXISTS kept (
    name TEXT NOT NULL, id TEXT NOT NULL, payload TEXT NOT NULL, grant_id TEXT, user_code TEXT, uid TEXT,
    consumed INTEGER, expires_at INTEGER, PRIMARY KEY (name, id)) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS kept_grant ON kept (grant_id) WHERE grant_id IS NOT NULL;`);
  const upsert = database.prepare('INSERT OR REPLACE INTO kept VALUES (?, ?, ?, ?, ?, ?, NULL, ?)');
  const find = database.prepare('SELECT payload, consumed FROM kept WHERE name = ? AND id = ? AND expires_at > ?');
  const findBy = (column) => database.prepare(`SELECT id FROM kept WHERE name = ? AND ${column} = ?`);
  const [byUserCode, byUid] = [findBy('user_code'), findBy('uid')];
  const consume = database.prepare('UPDATE kept SET consumed = ? WHERE name = ? AND id = ?');
  const destroy = database.prepare('DELETE FROM kept WHERE name = ? AND id = ?');
  const revoke = database.prepare('DELETE FROM kept WHERE grant_id = ?');
  const now = () => Math.floor(Date.now() / 1000);

  return class SqliteAdapter {
    constructor(name) {
      this.name = name;
    }

    async upsert(id, payload, expiresIn) {
      const { grantId = null, userCode = null, uid = null } = payload;
      const expiresAt = expiresIn ? now() + expiresIn : Number.MAX_SAFE_INTEGER;
      upsert.run(this.name, id, JSON.stringify(payload), grantId, userCode, uid, expiresAt);
    }

    async find(id) {
      const row = find.get(this.name, id, now());
      return row && { ...JSON.parse(row.payload), ...(row.consumed ? { consumed: row.consumed } : undefined) };
    }

    async findByUserCode(userCode) {
      const row = byUserCode.get(this.name, userCode);
      return row && this.find(row.id);
    }

    async findByUid(uid) {
      const row = byUid.get(this.name, uid);
      return row && this.find(row.id);
    }

    async consume(id) {
      consume.run(now(), this.name, id);
    }

    async destroy(id) {
      destroy.run(this.name, id);
    }

    async revokeByGrantId(grantId) {
      revoke.run(grantId);
    }
  };
}
