// An authorization server for Cardkey's tests: oidc-provider with clients of ours, and one protected resource.
// Run from the folder it is installed into: `node server.mjs settings.json`, where the settings name port,
// redirect_uri, clients and lifetime. Prints "ready" when it answers.
import { readFileSync } from 'node:fs';
import Provider from 'oidc-provider';

const settings = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const issuer = `http://127.0.0.1:${settings.port}`;

const clients = settings.clients.map((client) => ({
  client_id: client.client_id,
  client_secret: client.client_secret,
  token_endpoint_auth_method: client.method,
  grant_types: client.person ? ['authorization_code', 'refresh_token'] : ['client_credentials'],
  response_types: client.person ? ['code'] : [],
  redirect_uris: client.person ? [settings.redirect_uri] : [],
  scope: 'read',
}));

const provider = new Provider(issuer, {
  clients,
  clockTolerance: 0,
  cookies: { keys: ['only for tests'] },
  scopes: ['read', 'offline_access'],
  pkce: { required: () => true },
  features: {
    devInteractions: { enabled: true },
    clientCredentials: { enabled: true },
    revocation: { enabled: true },
  },
  findAccount: (_ctx, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
  issueRefreshToken: () => true,
  rotateRefreshToken: () => true,
  ttl: {
    AccessToken: settings.lifetime,
    ClientCredentials: settings.lifetime,
    AuthorizationCode: 60,
    RefreshToken: 3600,
    Grant: 3600,
    Session: 3600,
    Interaction: 600,
  },
});

provider.use(async (ctx, next) => {
  if (ctx.path !== '/api/orders') return next();
  const value = (ctx.get('authorization').match(/^Bearer (.+)$/) || [])[1];
  const token = value && ((await provider.AccessToken.find(value)) || (await provider.ClientCredentials.find(value)));
  ctx.status = token && token.isValid ? 200 : 401;
  ctx.body = token && token.isValid ? { client: token.clientId, scope: token.scope || '', orders: [1, 2] } : {};
});

provider.listen(settings.port, '127.0.0.1', () => console.log('ready'));
