import js from "@eslint/js";
import globals from "globals";

export default [
    js.configs.recommended,
    {
        files: ["web/**/*.{js,mjs}"],
        languageOptions: { globals: globals.browser },
        linterOptions: { reportUnusedDisableDirectives: "error" },
        rules: {
            curly: ["error", "multi-line"],
            eqeqeq: "error",
            "no-console": "error",
            "no-eval": "error",
            "no-implied-eval": "error",
            "no-shadow": "error",
            "no-var": "error",
            "object-shorthand": "error",
            "prefer-const": "error",
            "prefer-template": "error",
        },
    },
];
