# ghcr-cache in a container: `docker build -t ghcr-cache .`, then
# `docker run -p 127.0.0.1:5000:5000 -v ghcr-cache:/data ghcr-cache`. Everything that must last is in /data.
# To configure it, mount a file over /etc/ghcr-cache/config.yaml.

FROM node:24-slim AS build
WORKDIR /app
COPY package.json package-lock.json ./
# No install scripts: they are for development (one fetches a Node of its own), and compiling needs none.
RUN npm ci --ignore-scripts
COPY tsconfig.json tsconfig.build.json ./
COPY src ./src
RUN npm run build

FROM node:24-slim AS dependencies
WORKDIR /app
COPY package.json package-lock.json ./
RUN npm ci --omit=dev

FROM node:24-slim
ENV NODE_ENV=production
WORKDIR /app
COPY --from=dependencies /app/node_modules ./node_modules
COPY --from=build /app/dist ./dist
COPY package.json LICENSE ./
COPY bin ./bin

# Inside a container, loopback is the container alone. So this config listens on every address, which in
# open mode has to be said: any client that reaches the port may use the stored credential. So publish it on
# 127.0.0.1, as above.
RUN mkdir -p /etc/ghcr-cache /data \
 && printf '%s\n' \
      'listen: { host: 0.0.0.0, port: 5000 }' \
      'data: /data' \
      'access: { network: true }' \
      > /etc/ghcr-cache/config.yaml \
 && chown node:node /data
VOLUME /data
USER node
EXPOSE 5000
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s \
  CMD ["node", "-e", "fetch('http://127.0.0.1:5000/healthz').then(answer => process.exit(answer.ok ? 0 : 1), () => process.exit(1))"]
ENTRYPOINT ["node", "--max-semi-space-size=8", "/app/bin/ghcr-cache.js"]
CMD ["serve", "--config", "/etc/ghcr-cache/config.yaml"]
