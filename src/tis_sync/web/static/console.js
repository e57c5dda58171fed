import { initAll } from './vendor/nhsuk-frontend.min.js'

initAll()
// Keep the log of an active run scrolled to its end.
const toEnd = () => document.querySelectorAll('.console-log').forEach(log => { log.scrollTop = log.scrollHeight })
document.body.addEventListener('htmx:sseMessage', toEnd)
toEnd()
