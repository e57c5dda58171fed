// A sign-in provider for the tests: any password is accepted. The file `people` says who has which
// roles, and is read for each token: who is not in it has no account.
import { readFileSync } from 'node:fs'

const config = JSON.parse(readFileSync(process.argv[2], 'utf8'))
const library = await import(config.library)
const Provider = library.Provider ?? library.default
const people = () => JSON.parse(readFileSync(config.people, 'utf8'))

const provider = new Provider(config.issuer, {
  clients: [{
    client_id: 'tis-sync',
    token_endpoint_auth_method: 'none',
    grant_types: ['authorization_code', 'refresh_token'],
    redirect_uris: [`${config.console}/sync/signin/done`],
    post_logout_redirect_uris: [`${config.console}/sync/signedout`]
  }],
  // Longer than any test moves its clock on.
  ttl: { AccessToken: 86400, AuthorizationCode: 60, Grant: 86400, IdToken: 86400, RefreshToken: 86400, Session: 86400 },
  pkce: { required: () => true },
  issueRefreshToken: async () => config.refresh_tokens,
  jwks: { keys: config.keys },
  cookies: { keys: ['only for tests'] },
  conformIdTokenClaims: false,
  claims: { openid: ['sub', 'preferred_username', 'realm_access'] },
  findAccount: (_, id) => people()[id] && {
    accountId: id,
    claims: () => ({ sub: id, preferred_username: id, realm_access: { roles: people()[id] } })
  }
})
provider.use(async (context, next) => {
  await next()
  if (context.path === '/jwks') context.body.keys.push(...config.other_keys)
})
provider.listen(config.port, '127.0.0.1')
