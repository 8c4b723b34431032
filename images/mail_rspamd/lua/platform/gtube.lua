-- Copyright (c) hybridlab.platform contributors
-- GNU General Public License v3.0-or-later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
-- SPDX-License-Identifier: GPL-3.0-or-later
-- GTUBE, the test mail of spam filters, into Junk; the image is built without Rspamd's own refusal of it.

local GTUBE = "XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"

rspamd_config:register_symbol({
  name = "GTUBE_FILED",
  type = "normal",
  score = 0.0,
  callback = function(task)
    for _, part in ipairs(task:get_text_parts() or {}) do
      if tostring(part:get_content() or ""):find(GTUBE, 1, true) then
        task:set_pre_result({ action = "add header", message = "GTUBE", module = "gtube", priority = 5 })
        return true
      end
    end
    return false
  end,
})
