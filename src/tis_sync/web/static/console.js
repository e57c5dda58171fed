import { initAll } from './vendor/nhsuk-frontend.min.js'

initAll()
// A log that is shown while a run goes on stays at its end.
const toEnd = () => document.querySelectorAll('.console-log').forEach(log => { log.scrollTop = log.scrollHeight })
document.body.addEventListener('htmx:sseMessage', toEnd)
toEnd()
