// A sign-in provider for the tests: any name and password are accepted; names have the roles below.
import { readFileSync } from 'node:fs'

const config = JSON.parse(readFileSync(process.argv[2], 'utf8'))
const library = await import(config.library)
const Provider = library.Provider ?? library.default
const roles = { olga: ['tis-sync-update'], vera: ['tis-sync-view'], '<b>xavier</b>': ['tis-sync-view'] }

const provider = new Provider(config.issuer, {
  clients: [{
    client_id: 'tis-sync',
    token_endpoint_auth_method: 'none',
    redirect_uris: [`${config.console}/sync/signin/done`],
    post_logout_redirect_uris: [`${config.console}/sync/signedout`]
  }],
  pkce: { required: () => true },
  jwks: { keys: config.keys },
  cookies: { keys: ['only for tests'] },
  conformIdTokenClaims: false,
  claims: { openid: ['sub', 'preferred_username', 'realm_access'] },
  findAccount: (_, id) => ({
    accountId: id,
    claims: () => ({ sub: id, preferred_username: id, realm_access: { roles: roles[id] ?? [] } })
  })
})
provider.listen(config.port, '127.0.0.1')
